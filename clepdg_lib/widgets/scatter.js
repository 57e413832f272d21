// Points on canvases side by side: a click picks a clip, a drag draws a lasso.
const MARGIN = 14, NEAR = 25; // pixels
// Marker of matplotlib -> corners, inner radius, degrees turned
const SHAPES = {
  o: [20, 1, 0], "^": [3, 1, -90], v: [3, 1, 90], s: [4, 1, 45], D: [4, 1, 0], P: [4, 0.4, 0],
  X: [4, 0.4, 45], h: [6, 1, 0], d: [4, 0.6, 0], "<": [3, 1, 180], ">": [3, 1, 0],
  p: [5, 1, -90], "*": [5, 0.4, -90],
};

function mark(context, [x, y], radius, marker, color) {
  const [n, inner, turn] = SHAPES[marker];
  context.beginPath();
  for (let k = 0; k < 2 * n; k += inner === 1 ? 2 : 1) {
    const angle = (turn / 180 + k / n) * Math.PI, r = radius * (k % 2 ? inner : 1);
    context.lineTo(x + r * Math.cos(angle), y + r * Math.sin(angle));
  }
  context.closePath();
  context.fillStyle = color;
  context.fill();
}

function isInside([x, y], lasso) {
  return lasso.reduce((inside, [ax, ay], i) => {
    const [bx, by] = lasso.at(i - 1);
    return inside !== (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax);
  }, false);
}

function addPanel(model, parent, { name, xy }, number) {
  const figure = parent.appendChild(document.createElement("figure"));
  figure.innerHTML = `<figcaption></figcaption>
    <canvas tabindex="0" role="img" data-lm-suppress-shortcuts="true"></canvas>`;
  const [caption, canvas] = figure.children;
  caption.textContent = name;
  canvas.ariaLabel = `Map of ${name}. Click or use the arrow keys to pick, drag to count.`;
  const values = new Float32Array(xy.buffer.slice(xy.byteOffset, xy.byteOffset + xy.byteLength));
  const [xs, ys] = [0, 1].map((axis) => values.filter((_, i) => i % 2 === axis));
  const fit = (all, size) => {
    const low = Math.min(...all), unit = (size - 2 * MARGIN) / (Math.max(...all) - low || 1);
    return (value) => MARGIN + (value - low) * unit;
  };
  let points = [], lasso = [];

  function draw() {
    const context = canvas.getContext("2d"), { clientWidth: width, clientHeight: height } = canvas;
    [canvas.width, canvas.height] = [width * devicePixelRatio, height * devicePixelRatio];
    context.scale(devicePixelRatio, devicePixelRatio);
    const across = fit(xs, width), up = fit(ys, height);
    points = Array.from(xs, (x, i) => [across(x), height - up(ys[i])]);
    const looks = model.get("looks"), codes = model.get("codes");
    const chosen = new Set(model.get("value")), radius = points.length > 1500 ? 3 : 4;
    points.forEach((point, i) => {
      const { color, marker } = looks[codes.getUint8(i)];
      context.globalAlpha = chosen.size && !chosen.has(i) ? 0.2 : 0.8;
      mark(context, point, radius, marker, color);
    });
    context.globalAlpha = 1;
    context.lineWidth = 2;
    const ends = [model.get("pick"), model.get("near")[number]].map((row) => points[row] ?? points[0]);
    mark(context, ends[0], 11, "*", "black");
    mark(context, ends[1], 9, "o", "transparent");
    context.stroke();
    if (lasso.length > 1) context.stroke(new Path2D(`M${lasso.join("L")}Z`));
  }

  const save = (key, value) => {
    model.set(key, value);
    model.save_changes();
  };
  canvas.onpointerdown = canvas.onpointermove = (event) => {
    if (event.type === "pointermove" && !lasso.length) return;
    canvas.setPointerCapture(event.pointerId);
    lasso.push([event.offsetX, event.offsetY]);
    draw();
  };
  canvas.onpointerup = ({ offsetX, offsetY }) => {
    const distance = ([x, y]) => Math.hypot(x - offsetX, y - offsetY);
    const path = lasso, distances = points.map(distance), least = Math.min(...distances);
    lasso = [];
    draw();
    if (path.some((point) => distance(point) > 5))
      save("value", [...points.keys()].filter((i) => isInside(points[i], path)));
    else if (least < NEAR) save("pick", distances.indexOf(least));
    else save("value", []);
  };
  canvas.onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) save("pick", (model.get("pick") + step + points.length) % points.length);
  };
  return draw;
}

function render({ model, el }) {
  el.classList.add("clepdg");
  el.innerHTML = `<div class="panels"></div><div class="legend"></div>`;
  const [panels, legend] = el.children;
  let draws = [];
  const redraw = () => draws.forEach((draw) => draw());
  const rebuild = () => {
    panels.replaceChildren();
    draws = model.get("panels").map((panel, i) => addPanel(model, panels, panel, i));
    legend.replaceChildren();
    for (const { name, color, marker } of model.get("looks")) {
      const canvas = Object.assign(document.createElement("canvas"), { width: 14, height: 14 });
      mark(canvas.getContext("2d"), [7, 7], 6, marker, color);
      legend.appendChild(document.createElement("span")).append(canvas, ` ${name}`);
    }
    redraw();
  };
  new ResizeObserver(redraw).observe(panels);
  for (const name of ["panels", "looks"]) model.on(`change:${name}`, rebuild);
  for (const name of ["pick", "near", "value"]) model.on(`change:${name}`, redraw);
  rebuild();
}
export default { render };
