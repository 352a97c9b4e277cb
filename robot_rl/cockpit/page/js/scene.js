// The 3-D scene: shapes by body, moved as the robot says. Drawn only when something has changed.

import * as three from "../vendor/three.module.min.js";
import { OrbitControls } from "../vendor/OrbitControls.js";
import { POSES_SLOT } from "./link.js";

// What a slow machine leaves out, step by step: pixels per pixel, shadows, frames per second.
const QUALITIES = [
  { pixels: 1.5, shadows: true, rate: 60 },
  { pixels: 1, shadows: true, rate: 30 },
  { pixels: 0.75, shadows: false, rate: 20 },
  { pixels: 0.6, shadows: false, rate: 6 },
];
const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i;
const SLOW = 45; // ms from frame to frame, above which the next quality is tried
const PATIENCE = 30; // frames
const FLOOR = 0x1b2633;
const UPRIGHT = new three.Quaternion().setFromAxisAngle(new three.Vector3(1, 0, 0), Math.PI / 2);

export class SceneView {
  constructor(link, canvas) {
    this.link = link;
    this.canvas = canvas;
    this.bodies = [];
    this.wanted = false;
    this.unseen = null;
    this.drawn = 0;
    this.level = 0;
    const software = drawnInSoftware();
    this.style = software ? { Material: three.MeshLambertMaterial, fine: 0.5 } : { Material: three.MeshStandardMaterial, fine: 1 };
    this.renderer = new three.WebGLRenderer({ canvas, antialias: !software, powerPreference: "high-performance" });
    this.scene = new three.Scene();
    this.scene.background = new three.Color(0x0f161f);
    this.scene.fog = new three.Fog(0x0f161f, 6, 40);
    this.camera = new three.PerspectiveCamera(42, 1, 0.02, 200);
    this.camera.up.set(0, 0, 1);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.addEventListener("change", () => this.redraw());
    this.root = new three.Group();
    this.scene.add(this.root);
    this.addLights();
    this.addArrow();
    this.view = { eye: [-0.62, -0.78, 0.92], target: [0.42, 0, 0.14] };
    this.look("over");
    addEventListener("resize", () => this.resize());
    this.resize();
    link.onPoses = (message) => this.move(message);
    this.setQuality(software ? QUALITIES.length - 1 : 0);
  }

  setQuality(level) {
    this.level = level;
    this.slow = 0;
    const { pixels, shadows } = QUALITIES[level];
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, pixels));
    this.sun.castShadow = this.renderer.shadowMap.enabled = shadows;
    this.root.traverse((part) => part.material && (part.material.needsUpdate = true));
    this.resize();
  }

  // Steps down where the browser's frames come too slowly: pictures and commands matter more than looks.
  judge(interval) {
    this.slow = interval > SLOW && interval < 1000 ? this.slow + 1 : Math.max(0, this.slow - 1);
    if (this.slow > PATIENCE && this.level < QUALITIES.length - 1) this.setQuality(this.level + 1);
  }

  addLights() {
    this.scene.add(new three.HemisphereLight(0xcfe4ff, 0x5a6675, 1.5));
    const sun = new three.DirectionalLight(0xffffff, 2.1);
    sun.position.set(0.7, -1.2, 2.6);
    sun.castShadow = true;
    sun.shadow.mapSize.set(1024, 1024);
    Object.assign(sun.shadow.camera, { left: -1.4, right: 1.4, top: 1.4, bottom: -1.4, near: 0.2, far: 6 });
    sun.shadow.bias = -0.0015;
    sun.shadow.normalBias = 0.01;
    this.sun = sun;
    this.scene.add(sun, sun.target);
  }

  addArrow() {
    this.arrow = new three.ArrowHelper(new three.Vector3(1, 0, 0), new three.Vector3(), 0.1, 0x3ddc97, 0.035, 0.022);
    this.arrow.visible = false;
    this.scene.add(this.arrow);
  }

  build(message) {
    this.root.clear();
    this.bodies = message.bodies.map(() => new three.Group());
    for (const body of this.bodies) this.root.add(body);
    for (const shape of message.shapes) this.bodies[shape.body].add(meshOf(shape, this.style));
    if (this.link.poses) this.place(this.link.poses);
    this.redraw();
  }

  // From the side that the page chooses: over the shoulder, face to face, from above.
  look(from) {
    const eye = new three.Vector3(...this.view.eye);
    const target = new three.Vector3(...this.view.target);
    const way = eye.clone().sub(target);
    if (from === "front") way.set(Math.abs(way.x) + 0.3, way.y * 0.45, way.z * 0.8);
    if (from === "top") way.set(-0.001, 0, way.length() * 1.05);
    this.controls.target.copy(target);
    this.camera.position.copy(target).add(way);
    this.sun.target.position.copy(target);
    this.controls.update();
    this.redraw();
  }

  move(message) {
    this.unseen = message.sequence;
    this.place(message.poses);
    this.redraw();
  }

  place(poses) {
    this.bodies.forEach((body, index) => {
      const [x, y, z, w, i, j, k] = poses.subarray(7 * index, 7 * index + 7);
      body.position.set(x, y, z);
      body.quaternion.set(i, j, k, w);
    });
  }

  // What the person asks for, at the tool: m/s as an arrow.
  showWish(tool, motion) {
    const way = new three.Vector3(motion[0], motion[1], motion[2]);
    const size = way.length();
    const visible = Boolean(tool) && size > 0.02;
    if (!visible && !this.arrow.visible) return;
    this.arrow.visible = visible;
    if (visible) {
      this.arrow.position.set(tool[0], tool[1], tool[2]);
      this.arrow.setDirection(way.normalize());
      this.arrow.setLength(0.05 + 0.16 * size, 0.035, 0.022);
    }
    this.redraw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas.parentElement;
    if (!width || !height) return;
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.fov = width < height * 1.1 ? 52 : 42;
    this.camera.updateProjectionMatrix();
    this.redraw();
  }

  redraw() {
    if (this.wanted) return;
    this.wanted = true;
    const wait = 1000 / QUALITIES[this.level].rate - (performance.now() - this.drawn) - 8;
    if (wait > 4) setTimeout(() => requestAnimationFrame(() => this.draw()), wait);
    else requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.wanted = false;
    const now = performance.now();
    if (this.canvas.offsetParent) {
      this.judge(now - this.drawn - Math.max(0, 1000 / QUALITIES[this.level].rate - 17));
      this.renderer.render(this.scene, this.camera);
    }
    this.drawn = now;
    if (this.unseen !== null) this.link.send({ type: "shown", camera: POSES_SLOT, sequence: this.unseen });
    this.unseen = null;
  }
}

function drawnInSoftware() {
  const context = document.createElement("canvas").getContext("webgl2");
  if (!context) throw new Error("this browser has no WebGL");
  const names = context.getExtension("WEBGL_debug_renderer_info");
  const name = context.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : context.RENDERER);
  context.getExtension("WEBGL_lose_context")?.loseContext();
  return SOFTWARE.test(name);
}

function meshOf(shape, { Material, fine }) {
  const [red, green, blue, opacity] = shape.color;
  // The floor is the page's ground, whatever its colour is for cameras.
  const color = shape.kind === "plane" ? new three.Color(FLOOR) : new three.Color().setRGB(red, green, blue, three.SRGBColorSpace);
  const material = new Material({ color, opacity, transparent: opacity < 1 });
  if ("roughness" in material) material.roughness = 0.62;
  const mesh = new three.Mesh(geometryOf(shape, fine), material);
  mesh.position.set(...shape.position);
  const [w, x, y, z] = shape.orientation;
  mesh.quaternion.set(x, y, z, w);
  if (shape.kind === "cylinder" || shape.kind === "capsule") mesh.quaternion.multiply(UPRIGHT); // theirs is along y
  if (shape.kind === "ellipsoid") mesh.scale.set(...shape.size);
  mesh.castShadow = opacity > 0.6 && shape.kind !== "plane";
  mesh.receiveShadow = opacity > 0.6;
  return mesh;
}

function geometryOf({ kind, size, vertices, faces }, fine) {
  const [a, b, c] = size;
  if (kind === "box") return new three.BoxGeometry(2 * a, 2 * b, 2 * c);
  if (kind === "sphere") return new three.SphereGeometry(a, 24 * fine, 16 * fine);
  if (kind === "ellipsoid") return new three.SphereGeometry(1, 24 * fine, 16 * fine);
  if (kind === "cylinder") return new three.CylinderGeometry(a, a, 2 * b, 32 * fine);
  if (kind === "capsule") return new three.CapsuleGeometry(a, 2 * b, 8 * fine, 24 * fine);
  if (kind === "plane") return new three.PlaneGeometry(a > 0 ? 2 * a : 40, b > 0 ? 2 * b : 40);
  const geometry = new three.BufferGeometry();
  geometry.setAttribute("position", new three.Float32BufferAttribute(vertices, 3));
  geometry.setIndex(faces);
  geometry.computeVertexNormals();
  return geometry;
}
