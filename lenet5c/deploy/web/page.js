/* The page around the network: paper to draw on, bars, maps, and the arithmetic of the
   number that was clicked.

   What has to be drawn is drawn once a frame, in `update`, however many events came in
   between. Names come from whoever trained the network: they are set as text, never as
   markup. */
"use strict";

(function () {
  const $ = (id) => document.getElementById(id);
  const net = network.read(JSON.parse($("network").textContent));
  const { classes, prepares } = net;
  const [channels] = net.input.shape;
  const [rows, columns] = net.input.source;

  const PAPER = 280; // pixels of the paper's sides, on every screen
  const LARGEST = 1000; // of a picture's longer side; a larger one is reduced
  const SLOW = 200; // milliseconds an image, from which it waits for the stroke's end
  const FEW = 12; // classes that are all shown, in their order
  const TOP = 10; // classes that are shown of more
  const SHOWN = 6; // input maps whose windows are written out
  const READABLE = 49; // numbers of a window that are written out

  const paper = $("drawing");
  // read after every stroke, so better kept in memory than on a graphics card
  const ink = paper.getContext("2d", { willReadFrequently: true });

  let items = []; // on the paper: strokes and pictures, in their order
  const past = []; // {items, example} before each change, for undo
  let stroke = null; // the one that is being drawn
  let example = null; // {label, image}: what is shown in place of the paper
  let run = null; // image, maps and probabilities
  let blank = true; // whether there is nothing to see
  let pending = 0; // the frame that is asked for
  let times = []; // milliseconds of the network for the last images; a first one takes longer
  let pointed = null; // {n, k}: the number that is pointed at
  let opened = null; // {n, k}: the number whose arithmetic is shown

  /** An element with properties and children; texts become text. */
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // ---- Numbers as text

  /** A number in a few digits, as people write it. */
  function few(x, digits = 4) {
    if (Number.isInteger(x) && Math.abs(x) < 1e15) return minus(String(x));
    const size = Math.abs(x);
    const text = size >= 1e-4 && size < 1e6 ? Number(x.toPrecision(digits)) : x.toExponential(2);
    return minus(String(text));
  }

  /** How to write numbers of which `most` is the largest, and their sum: all with the
      same number of decimals, or they would not add up. */
  function alike(most) {
    if (net.integers || most < 1e-4 || most >= 1e6) return (x) => few(x);
    const decimals = Math.max(0, 3 - Math.floor(Math.log10(most)));
    return (x) => (x === 0 ? "0" : minus(x.toFixed(decimals).replace(/^-(?=[0.]+$)/, "")));
  }

  const minus = (text) => text.replaceAll("-", "−");
  const signed = (text) => (text.startsWith("−") ? `(${text})` : text);
  const factor = (x, digits) => signed(few(x, digits));
  const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
  const plus = (texts) => texts.map(signed).join(" + ");
  const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
  const size = ([C, H, W]) => (H * W > 1 ? `${many(C, "map")} of ${H} × ${W}` : many(C, "number"));

  // ---- The paper

  function redraw() {
    const picture = items.findLast((item) => item.picture);
    paper.width = picture ? picture.picture.width : PAPER; // which clears it
    paper.height = picture ? picture.picture.height : PAPER;
    paper.classList.toggle("picture", Boolean(picture));
    if (example) showExample();
    ink.lineCap = ink.lineJoin = "round";
    for (const item of items) {
      if (item.picture) {
        if (item === picture) ink.drawImage(item.picture, 0, 0);
        continue;
      }
      ink.lineWidth = item.width * paper.width;
      ink.beginPath();
      item.points.forEach(([x, y], at) => {
        if (at === 0) ink.moveTo(x * paper.width, y * paper.height);
        // a line without length would not be drawn: a dot is a very short one
        ink.lineTo(x * paper.width + (at ? 0 : 0.01), y * paper.height);
      });
      ink.stroke();
    }
  }

  /** An example as if it were drawn; what is computed with is the example itself. */
  function showExample() {
    const small = make("canvas");
    showImage(small, example.image);
    if (channels === 3) paper.classList.add("picture");
    else {
      const context = small.getContext("2d");
      const picture = context.getImageData(0, 0, columns, rows);
      for (let at = 0; at < rows * columns; at++) {
        picture.data.set([0, 0, 0, example.image[at]], 4 * at);
      }
      context.putImageData(picture, 0, 0);
    }
    const scale = Math.min(PAPER / columns, PAPER / rows);
    const [width, height] = [columns * scale, rows * scale];
    ink.drawImage(small, (PAPER - width) / 2, (PAPER - height) / 2, width, height);
  }

  /** Put these on the paper, or an example in place of them. */
  function put(nextItems, nextExample = null) {
    past.push({ items, example });
    [items, example] = [nextItems, nextExample];
    changed(!stroke);
  }

  function begin(point) {
    stroke = { points: [point], width: Number($("thickness").value) / PAPER };
    put([...items, stroke]);
  }

  function end() {
    if (!stroke) return;
    stroke = null;
    changed(true);
  }

  /** Where an event is on the paper, in shares of its sides. */
  function where(event) {
    const box = paper.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  paper.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    liftPen();
    paper.setPointerCapture(event.pointerId);
    begin(where(event));
  });
  paper.addEventListener("pointermove", (event) => {
    if (!stroke || !event.isPrimary || !event.buttons) return;
    // all places since the last frame, so that a quick curve has no corners
    const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const each of all.length ? all : [event]) stroke.points.push(where(each));
    changed();
  });
  paper.addEventListener("pointerup", end);
  paper.addEventListener("pointercancel", end);

  // Those who have no pointer move a pen with the arrow keys.
  const pen = { x: 0.5, y: 0.2, down: false };
  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function showPen(shown) {
    $("pen").hidden = !shown;
    $("pen").classList.toggle("down", pen.down);
    $("pen").style.left = `${100 * pen.x}%`;
    $("pen").style.top = `${100 * pen.y}%`;
  }

  function liftPen() {
    if (pen.down) end();
    pen.down = false;
  }

  paper.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (event.key === " ") {
      if (pen.down) liftPen();
      else {
        pen.down = true;
        begin([pen.x, pen.y]);
      }
      say(pen.down ? "pen down" : "pen up");
    } else if (move) {
      const step = event.shiftKey ? 0.01 : 0.05;
      pen.x = Math.min(0.98, Math.max(0.02, pen.x + move[0] * step));
      pen.y = Math.min(0.98, Math.max(0.02, pen.y + move[1] * step));
      if (pen.down && stroke) {
        stroke.points.push([pen.x, pen.y]);
        changed();
      }
    } else return;
    event.preventDefault();
    showPen(true);
  });
  paper.addEventListener("blur", () => {
    liftPen();
    showPen(false);
  });

  $("undo").addEventListener("click", () => {
    if (past.length) ({ items, example } = past.pop());
    changed(true);
  });
  $("clear").addEventListener("click", () => {
    trouble("");
    put([]);
  });

  // ---- Pictures

  async function take(file) {
    trouble("");
    const address = URL.createObjectURL(file);
    try {
      const loaded = new Image();
      loaded.src = address;
      await loaded.decode();
      const large = Math.max(loaded.naturalWidth, loaded.naturalHeight);
      const scale = Math.min(1, LARGEST / large);
      const picture = make("canvas");
      picture.width = Math.max(1, Math.round(loaded.naturalWidth * scale));
      picture.height = Math.max(1, Math.round(loaded.naturalHeight * scale));
      const context = picture.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(loaded, 0, 0, picture.width, picture.height);
      context.getImageData(0, 0, 1, 1); // refused here if it may not be read
      put([{ picture }]);
    } catch {
      trouble(`${file.name || "This"} is no picture that this browser can read.`);
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  function trouble(text) {
    $("trouble").textContent = text;
  }

  const fileOf = (transfer) => transfer && transfer.files[0];
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) take($("file").files[0]);
    $("file").value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => {
    const file = fileOf(event.clipboardData);
    if (file) take(file);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault(); // or the browser would leave the page for the picture
    $("paper").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("paper").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("paper").classList.remove("over");
    const file = fileOf(event.dataTransfer);
    if (file) take(file);
  });
  $("as-it-is").addEventListener("change", () => changed(true));
  $("as-it-is-line").hidden = !prepares; // others are always taken as they are

  // ---- The image that the network is given: bytes, channels x rows x columns

  /** The image of what is on the paper; null if that is nothing. */
  function prepared() {
    if (!items.length) return null;
    const drawing = items.every((item) => !item.picture); // dark on white, as it is
    if (prepares && (drawing || !$("as-it-is").checked)) {
      const { data } = ink.getImageData(0, 0, paper.width, paper.height);
      return prepare(data, paper.width, paper.height, rows);
    }
    return fitted();
  }

  /** The paper made as large as fits into the image, on black as it is in training. */
  function fitted() {
    const scale = Math.min(columns / paper.width, rows / paper.height);
    const width = Math.max(1, Math.round(paper.width * scale));
    const height = Math.max(1, Math.round(paper.height * scale));
    const left = Math.floor((columns - width) / 2);
    const top = Math.floor((rows - height) / 2);
    const small = make("canvas", { width: columns, height: rows });
    const context = small.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillRect(0, 0, columns, rows);
    context.fillStyle = ground();
    context.fillRect(left, top, width, height);
    context.drawImage(paper, left, top, width, height);
    const { data } = context.getImageData(0, 0, columns, rows);
    const image = new Uint8Array(channels * rows * columns);
    for (let at = 0; at < rows * columns; at++) {
      for (let c = 0; c < channels; c++) {
        image[c * rows * columns + at] = channels === 3 ? data[4 * at + c] : grey(data, 4 * at);
      }
    }
    return image;
  }

  const grey = (data, at) =>
    Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]);

  /** What is transparent becomes white; or black, if that is most of the picture and what
      is drawn on it is light. */
  function ground() {
    const { data } = ink.getImageData(0, 0, paper.width, paper.height);
    let light = 0, alpha = 0;
    for (let at = 0; at < data.length; at += 4) {
      light += grey(data, at) * data[at + 3];
      alpha += data[at + 3];
    }
    const most = alpha < 0.5 * 255 * (data.length / 4);
    return most && light > 127.5 * alpha ? "#000000" : "#ffffff";
  }

  /** An image on a canvas of its size. */
  function showImage(canvas, image) {
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const picture = context.createImageData(columns, rows);
    for (let at = 0; at < rows * columns; at++) {
      for (let c = 0; c < 3; c++) {
        picture.data[4 * at + c] = image[(channels === 3 ? c : 0) * rows * columns + at];
      }
      picture.data[4 * at + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  }

  $("save").addEventListener("click", () => {
    $("prepared").toBlob((blob) => {
      const href = URL.createObjectURL(blob);
      make("a", { href, download: "image.png" }).click();
      setTimeout(() => URL.revokeObjectURL(href), 10000); // when it has been written
    });
  });

  net.examples.forEach((given, number) => {
    const { label } = given;
    const image = Uint8Array.from(atob(given.pixels), (letter) => letter.charCodeAt(0));
    const canvas = make("canvas");
    showImage(canvas, image);
    const button = make("button", { type: "button" }, canvas, make("span", { dir: "auto" }, label));
    button.setAttribute("aria-label", `Example ${number + 1}, labelled ${label}`);
    button.title = label;
    button.addEventListener("click", () => put([], given));
    $("examples").append(button);
    given.image = image;
  });
  $("examples-block").hidden = !net.examples.length;

  // ---- Once a frame

  let spent = 0; // milliseconds that the last image took, with all that is shown of it
  let free = 0; // when the next one may be begun while someone draws
  let settled = false; // whether the change is complete, and its result to be said

  /** Something has changed; `complete` if no more of the same will follow at once. */
  function changed(complete = false) {
    settled ||= complete;
    if (!pending) pending = requestAnimationFrame(update);
  }

  function update() {
    pending = 0;
    redraw();
    if (stroke && spent > SLOW) return;
    if (stroke && performance.now() < free) return changed();
    const start = performance.now();
    const image = example ? example.image : prepared();
    blank = !image;
    compute(image || new Uint8Array(channels * rows * columns));
    show();
    if (settled) say(blank ? nothing() : `${best().map(([name, share]) => `${name}, ${percent(share)}`)[0]}`);
    settled = false;
    // half of the time is left to the pen; the first image, for which the browser has
    // yet to compile, says nothing of the next
    const end = performance.now();
    spent = Math.min(end - start, 2 * spent || Infinity);
    free = end + spent;
  }

  function compute(image) {
    const start = performance.now();
    run = network.forward(net, image);
    times = [performance.now() - start, ...times.slice(0, 2)];
    return run;
  }

  const nothing = () => (items.length ? "Nothing found on the picture" : "Draw something");

  /** For those who hear the page. */
  function say(text) {
    $("said").textContent = text;
  }

  /** Names and probabilities, the most probable first. */
  function best() {
    const order = Array.from(run.probabilities, (share, at) => [classes[at], share, at]);
    return order.sort((a, b) => b[1] - a[1]);
  }

  // ---- What it says

  const bars = [];
  let all = classes.length <= FEW;

  function listBars() {
    const count = all ? classes.length : TOP;
    $("bars").replaceChildren();
    bars.length = 0;
    for (let at = 0; at < count; at++) {
      const name = make("span", { className: "name" });
      const bar = make("div", { className: "bar" });
      const share = make("span", { className: "share" });
      const line = make("li", {}, name, make("div", { className: "track" }, bar), share);
      bars.push({ line, name, bar, share });
      $("bars").append(line);
    }
    $("bars").classList.toggle("long", classes.some((name) => name.length > 3));
    $("all-classes").hidden = classes.length <= FEW;
    $("all-classes").textContent = all ? `Only the first ${TOP}` : `All ${classes.length} classes`;
    $("all-classes").setAttribute("aria-expanded", String(all));
  }

  $("all-classes").addEventListener("click", () => {
    all = !all;
    listBars();
    show();
  });

  function show() {
    showImage($("prepared"), run.image);
    const order = best();
    const [name, share, first] = order[0];
    $("answer").textContent = blank ? nothing() : name;
    $("answer").classList.toggle("long", blank || name.length > 6);
    const labelled = example ? `, labelled ${example.label}` : "";
    $("how-sure").textContent = blank ? "" : `probability ${percent(share)}${labelled}`;
    $("save").disabled = blank;
    $("undo").disabled = !past.length;
    $("clear").disabled = !items.length && !example;
    $("bars").classList.toggle("idle", blank);
    // few classes keep their places; of many, the most probable are on top
    const listed = classes.length <= FEW ? order.sort((a, b) => a[2] - b[2]) : order;
    bars.forEach((bar, at) => {
      const [text, part, number] = listed[at];
      bar.name.textContent = bar.name.title = text;
      bar.share.textContent = percent(part);
      bar.bar.style.width = `${100 * part}%`;
      bar.line.classList.toggle("first", !blank && number === first);
    });
    const took = Math.min(...times);
    $("speed").textContent = `An image takes it ${took < 10 ? took.toFixed(1) : Math.round(took)} ms here.`;
    views.forEach(paint);
    if (opened) explain();
    readOut();
  }

  // ---- Colours: negative over zero to positive, of the theme

  let colours = new Uint32Array(511); // of -255 to 255, as bytes of an image
  let mark = "#000000";

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const named = (name) => {
      const text = style.getPropertyValue(name).trim();
      return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
    };
    const [negative, zero, positive] = ["--negative", "--zero", "--positive"].map(named);
    const bytes = new Uint8Array(colours.buffer);
    for (let n = 0; n < 511; n++) {
      const share = Math.abs(n - 255) / 255;
      const end = n < 255 ? negative : positive;
      for (let c = 0; c < 3; c++) bytes[4 * n + c] = zero[c] + share * (end[c] - zero[c]);
      bytes[4 * n + 3] = 255;
    }
    mark = style.getPropertyValue("--mark").trim();
  }

  const colour = (x, most) => colours[255 + Math.round((255 * x) / (most || 1))];

  function largest(numbers) {
    let most = 0;
    for (const x of numbers) most = Math.max(most, Math.abs(x));
    return most;
  }

  /** A CSS colour behind text, not stronger than the text can bear. */
  function behind(x, most) {
    const word = colour(0.55 * x, most);
    return `rgb(${word & 255} ${(word >> 8) & 255} ${(word >> 16) & 255})`;
  }

  // ---- The maps of a layer, on one canvas

  const views = net.layers.map((layer, n) => {
    const what = { input: "the image in the units that the network computes in", softmax: "softmax: exp(x) over the sum of all" };
    const canvas = make("canvas", { className: "maps", tabIndex: 0 });
    const text = `${layer.name}: ${layer.what || what[layer.kind]}, ${size(layer.output)}`;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", `${text}. Arrow keys choose a number, Enter shows its arithmetic.`);
    const read = make("div", { className: "read soft" });
    const title = make("h3", { dir: "auto" }, layer.name);
    const about = make("span", { className: "soft" }, `${layer.what || what[layer.kind]} · ${size(layer.output)}`);
    const article = make("article", {}, make("div", { className: "head" }, title, about), canvas, read);
    $("layers").append(article);
    const view = { n, layer, canvas, read, article, k: 0, small: make("canvas") };
    canvas.addEventListener("pointermove", (event) => point(n, hit(view, event)));
    canvas.addEventListener("pointerleave", () => point(n, null));
    canvas.addEventListener("click", (event) => {
      const k = hit(view, event);
      if (k !== null) open(n, k);
    });
    canvas.addEventListener("focus", () => {
      if (canvas.matches(":focus-visible")) point(n, view.k);
    });
    canvas.addEventListener("blur", () => point(n, null));
    canvas.addEventListener("keydown", (event) => step(view, event));
    return view;
  });

  /** How large the cells are, and how many maps stand in a row. */
  function lay(view) {
    const [C, H, W] = view.layer.output;
    const width = view.article.clientWidth;
    const single = H * W === 1;
    const wanted = single ? (C <= 32 ? 22 : 14) : C === 1 ? 140 : C <= 32 ? 84 : C <= 128 ? 56 : 36;
    const zoom = Math.min(Math.max(1, Math.min(14, Math.round(wanted / Math.max(H, W)))), width / W);
    view.zoom = single ? wanted : zoom;
    view.gap = single ? 2 : 6;
    view.columns = Math.max(1, Math.min(C, Math.floor((width + view.gap) / (W * view.zoom + view.gap))));
    view.rows = Math.ceil(C / view.columns);
    const [across, down] = [W, H].map((side) => side * view.zoom + view.gap);
    const ratio = window.devicePixelRatio || 1;
    const sides = [view.columns * across - view.gap, view.rows * down - view.gap].map((side) => side + 4);
    Object.assign(view, { across, down, ratio });
    view.canvas.width = Math.round(sides[0] * ratio);
    view.canvas.height = Math.round(sides[1] * ratio);
    view.canvas.style.width = `${sides[0]}px`;
    view.canvas.style.height = `${sides[1]}px`;
    view.small.width = view.columns * W;
    view.small.height = view.rows * H;
  }

  /** Where map c begins on the canvas; two pixels around all maps are for marks. */
  const corner = (view, c) => [
    2 + (c % view.columns) * view.across,
    2 + Math.floor(c / view.columns) * view.down,
  ];

  function paint(view) {
    if (!run || !view.canvas.width) return;
    const [C, H, W] = view.layer.output;
    const x = run.maps[view.n];
    const most = largest(x);
    const context = view.canvas.getContext("2d");
    // a pixel for each number first, map beside map; then the maps, as large as they are shown
    const pixels = new ImageData(view.small.width, view.small.height);
    const words = new Uint32Array(pixels.data.buffer);
    for (let c = 0, k = 0; c < C; c++) {
      const begin = Math.floor(c / view.columns) * H * view.small.width + (c % view.columns) * W;
      for (let i = 0; i < H; i++) {
        for (let j = 0; j < W; j++) words[begin + i * view.small.width + j] = colour(x[k++], most);
      }
    }
    view.small.getContext("2d").putImageData(pixels, 0, 0);
    context.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
    context.clearRect(0, 0, view.canvas.width, view.canvas.height);
    context.imageSmoothingEnabled = false;
    for (let c = 0; c < C; c++) {
      const from = [(c % view.columns) * W, Math.floor(c / view.columns) * H, W, H];
      context.drawImage(view.small, ...from, ...corner(view, c), W * view.zoom, H * view.zoom);
    }
    context.strokeStyle = mark;
    context.lineWidth = 2;
    for (const chosen of [opened, pointed]) {
      if (!chosen) continue;
      if (chosen.n === view.n) {
        const [c, i, j] = network.place(view.layer.output, chosen.k);
        outline(view, context, c, i, j, 1, 1);
      }
      for (const each of network.reach(net.layers[chosen.n], chosen.k)) {
        if (each.map !== view.n) continue;
        const { top, left, rows: tall, columns: wide } = each;
        if (H * W === 1 && each.end - each.channel === C) continue; // all of them
        for (let c = each.channel; c < each.end; c++) outline(view, context, c, top, left, tall, wide);
      }
    }
  }

  /** A frame around a window of map c, or around what of it is on the map. */
  function outline(view, context, c, top, left, tall, wide) {
    const [, H, W] = view.layer.output;
    const [x, y] = corner(view, c);
    const [y0, y1] = [Math.max(0, top), Math.min(H, top + tall)];
    const [x0, x1] = [Math.max(0, left), Math.min(W, left + wide)];
    context.strokeRect(x + x0 * view.zoom, y + y0 * view.zoom, (x1 - x0) * view.zoom, (y1 - y0) * view.zoom);
  }

  /** The number under a pointer; null between the maps. */
  function hit(view, event) {
    const [C, H, W] = view.layer.output;
    const x = event.offsetX - 2, y = event.offsetY - 2;
    const c = Math.floor(y / view.down) * view.columns + Math.floor(x / view.across);
    const j = Math.floor((x % view.across) / view.zoom), i = Math.floor((y % view.down) / view.zoom);
    const inside = x >= 0 && y >= 0 && x < view.columns * view.across && c < C && i < H && j < W;
    return inside ? (c * H + i) * W + j : null;
  }

  /** Point at a number, or at nothing; what was marked before is painted anew. */
  function point(n, k) {
    const before = pointed;
    pointed = k === null ? null : { n, k };
    if (before && pointed && before.n === n && before.k === k) return;
    if (k !== null) views[n].k = k;
    repaint(before, pointed);
    readOut();
  }

  /** Paint the layers of these numbers, and those that they are computed from. */
  function repaint(...chosen) {
    const layers = chosen.filter(Boolean).flatMap(({ n }) => [n, ...net.layers[n].from]);
    for (const n of new Set(layers)) paint(views[n]);
  }

  /** The number that is pointed at, or what the colours mean. */
  function readOut() {
    for (const view of views) {
      const here = pointed && pointed.n === view.n;
      const most = largest(run.maps[view.n]);
      view.read.textContent = here
        ? `${spoken(view.layer, pointed.k)}: ${few(run.maps[view.n][pointed.k])}`
        : `colours from ${few(run.maps[view.n].some((x) => x < 0) ? -most : 0, 3)} to ${few(most, 3)}`;
    }
  }

  function spoken(layer, k) {
    const [c, i, j] = network.place(layer.output, k);
    const [C, H, W] = layer.output;
    if (layer.kind === "softmax" || layer.last) return `class ${classes[k]}`;
    if (H * W === 1) return `number ${c + 1} of ${C}`;
    return `map ${c + 1} of ${C}, row ${i + 1}, column ${j + 1}`;
  }

  /** Arrow keys go from number to number, and over an edge to the next map. */
  function step(view, event) {
    const [C, H, W] = view.layer.output;
    let [c, i, j] = network.place(view.layer.output, view.k);
    const move = MOVES[event.key];
    if (event.key === "Enter" || event.key === " ") open(view.n, view.k);
    else if (event.key === "Escape" && opened) close();
    else if (event.key === "PageDown") c++;
    else if (event.key === "PageUp") c--;
    else if (event.key === "Home") [c, i, j] = [0, 0, 0];
    else if (event.key === "End") [c, i, j] = [C - 1, H - 1, W - 1];
    else if (move) {
      [j, i] = [j + move[0], i + move[1]];
      if (j < 0 || j >= W) [c, j] = [c + move[0], j < 0 ? W - 1 : 0];
      if (i < 0 || i >= H) [c, i] = [c + move[1] * view.columns, i < 0 ? H - 1 : 0];
    } else return;
    event.preventDefault();
    if (c < 0 || c >= C) return;
    const k = (c * H + i) * W + j;
    if (k === view.k && pointed) return;
    point(view.n, k);
    say(view.read.textContent);
  }

  // ---- The arithmetic of one number

  const panel = make("section", { className: "arithmetic" });
  let everyMap = false; // whether the windows of all maps are written out

  function open(n, k) {
    const before = opened;
    if (before && before.n === n && before.k === k) return close();
    opened = { n, k };
    everyMap = false;
    views[n].k = k;
    views[n].article.append(panel);
    repaint(before, opened);
    explain();
    const texts = Array.from(panel.children, (child) => (child.matches("h4, p.line") ? child.textContent : ""));
    say(texts.filter(Boolean).join(". "));
  }

  function close() {
    const before = opened;
    opened = null;
    const inside = panel.contains(document.activeElement);
    panel.remove();
    repaint(before);
    if (inside) views[before.n].canvas.focus();
  }

  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });

  function explain() {
    const found = network.explain(net, run, opened.n, opened.k);
    const inside = panel.contains(document.activeElement) && document.activeElement.className;
    const shut = make("button", { type: "button", className: "close", title: "Close" }, "✕");
    shut.setAttribute("aria-label", "Close the arithmetic");
    shut.addEventListener("click", close);
    const name = `${found.layer.name}, ${spoken(found.layer, found.k)}`;
    const heading = make("h4", {}, `${name}: ${few(found.value)}`);
    panel.setAttribute("aria-label", `The arithmetic of ${name}`);
    panel.replaceChildren(heading, shut, ...lines(found), ...windows(found));
    // it is written anew while someone draws: what had the focus has it again
    if (inside) panel.getElementsByClassName(inside)[0]?.focus();
  }

  /** The windows that a number comes from: written out if they are small and few, as the
      largest products and pictures of all if not. */
  function windows(found) {
    const { parts, layer } = found;
    if (!parts.length || layer.kind === "activation" || layer.kind === "flatten") return [];
    const area = parts[0].x.length;
    if (["add", "softmax"].includes(layer.kind) || (layer.kind === "scale" && area === 1)) return [];
    const spelled = area > 1 && area <= READABLE && layer.kind !== "radial_basis";
    if (!spelled) return products(found);
    const order = [...parts].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum));
    const shown = everyMap || parts.length <= SHOWN + 2 ? parts : order.slice(0, SHOWN);
    const blocks = shown.map((part) => written(found, part));
    if (shown.length < parts.length || everyMap) {
      const text = everyMap ? "Only the largest sums" : `Windows of all ${parts.length} maps`;
      const button = make("button", { type: "button", className: "every" }, text);
      button.addEventListener("click", () => {
        everyMap = !everyMap;
        explain();
      });
      const said = everyMap ? [] : ["The maps with the largest sums. "];
      blocks.unshift(make("p", { className: "soft" }, ...said, button));
    }
    return blocks;
  }

  /** One channel's window, kernel and products, as tables and as a sum. */
  function written(found, part) {
    const source = net.layers[part.map];
    const [, H, W] = source.output;
    const named = H * W > 1
      ? `map ${part.channel + 1}, rows ${part.top + 1} to ${part.top + part.rows}, columns ${part.left + 1} to ${part.left + part.columns}`
      : `number ${part.channel + 1}`;
    const block = make("div", { className: "part" }, make("p", { className: "soft" }, `${source.name}, ${named}`));
    const grids = make("div", { className: "grids" });
    const most = largest(run.maps[part.map]);
    const shown = found.parts.flatMap((each) => (each.w ? each.x : [...each.x, each.sum]));
    const write = alike(largest(shown));
    const x = part.x.map(write);
    let terms = x.map(signed);
    const maximum = found.layer.kind === "max_pool";
    const peak = maximum ? part.x.findIndex((value, at) => part.inside[at] && value === part.sum) : -1;
    grids.append(grid("window", part.x, x, part, most, peak));
    if (part.w) {
      const heaviest = largest(found.parts.flatMap((each) => each.w));
      const w = part.w.map(alike(heaviest));
      const products = largest(found.parts.flatMap((each) => each.products));
      grids.append("×", grid("kernel", part.w, w, part, heaviest));
      grids.append("=", grid("products", part.products, part.products.map(alike(products)), part, products));
      terms = terms.map((text, at) => `${text}·${signed(w[at])}`);
    }
    const kept = terms.filter((_, at) => part.inside[at]);
    const sum = (part.w ? adding(found) : write)(part.sum);
    const text = maximum ? `max(${kept.join(", ")})` : kept.join(" + ");
    const what = maximum ? "the largest" : part.w ? "the sum of the products" : "the sum";
    const all = make("details", { open: found.parts.length === 1 });
    const result = make("span", { className: "result" }, sum);
    all.append(make("summary", {}, `${what} = `, result), make("p", { className: "line" }, `${text} = ${sum}`));
    block.append(grids, all);
    return block;
  }

  /** Numbers as a table, in their colours; a dot is what lies outside of the map. */
  function grid(caption, numbers, texts, part, most, chosen = -1) {
    const table = make("table", {}, make("caption", {}, caption));
    for (let r = 0; r < part.rows; r++) {
      const row = table.insertRow();
      for (let t = 0; t < part.columns; t++) {
        const at = r * part.columns + t;
        const cell = row.insertCell();
        const padding = caption !== "kernel" && !part.inside[at];
        cell.textContent = padding ? "·" : texts[at];
        cell.style.backgroundColor = padding ? "" : behind(numbers[at], most);
        cell.classList.toggle("outside", padding);
        cell.classList.toggle("chosen", at === chosen);
      }
    }
    return table;
  }

  /** Hundreds of products: the largest in a table, all of them as pictures. */
  function products(found) {
    const { parts, layer } = found;
    const source = net.layers[parts[0].map];
    const [, , W] = source.output;
    const terms = parts.flatMap((part) =>
      part.x.map((x, at) => ({
        x,
        w: part.w ? part.w[at] : 1,
        product: part.products[at],
        channel: part.channel,
        i: part.top + Math.floor(at / part.columns),
        j: part.left + (at % part.columns),
      })),
    );
    const order = [...terms].sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
    const largestOnes = order.slice(0, TOP);
    const rest = order.slice(TOP);
    const weighs = Boolean(parts[0].w);
    const sums = layer.kind !== "max_pool";
    const write = (key) => alike(largest(terms.map((term) => term[key])));
    const [writeX, writeW] = [write("x"), write("w")];
    const writeProduct = weighs ? adding(found) : writeX;
    const distance = layer.kind === "radial_basis";
    const term = distance ? "(x − w)²" : "x·w";
    const what = distance ? "squares" : weighs ? "products" : "numbers";
    const head = weighs ? ["from", "x", "w", term] : ["from", "x"];
    const table = make("table", { className: "terms" });
    table.append(make("caption", {}, `The largest of ${terms.length} ${what} of ${source.name}`));
    const row = (...cells) => make("tr", {}, ...cells.map((text) => make("td", {}, text)));
    table.append(make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))));
    const body = make("tbody");
    const flat = parts[0].x.length === 1 && source.output[1] * W === 1;
    for (const { x, w, product, channel, i, j } of largestOnes) {
      const from = flat ? `number ${channel + 1}` : `map ${channel + 1}, row ${i + 1}, column ${j + 1}`;
      body.append(weighs ? row(from, writeX(x), writeW(w), writeProduct(product)) : row(from, writeX(x)));
    }
    const last = (what, text) => body.append(weighs ? row(what, "", "", text) : row(what, text));
    const sum = (some) => writeProduct(some.reduce((total, { product }) => total + product, 0));
    if (rest.length) last(`the other ${rest.length}${sums ? " together" : ""}`, sums ? sum(rest) : "…");
    if (sums) last("the sum", sum(terms));
    table.append(body);
    const grids = make("div", { className: "grids" });
    const named = weighs ? { x: "x", w: "w", product: term } : { x: "x" };
    for (const [key, caption] of Object.entries(named)) {
      grids.append(heat(caption, terms.map((term) => term[key]), parts[0]));
    }
    return [table, grids];
  }

  /** Numbers as a picture: in their rows if they are a window, else in rows of about
      twice as many as there are rows. */
  function heat(caption, numbers, part) {
    const across = part.columns > 1 ? part.columns : Math.ceil(Math.sqrt(2 * numbers.length));
    const canvas = make("canvas", { width: across, height: Math.ceil(numbers.length / across) });
    const pixels = new ImageData(canvas.width, canvas.height);
    const words = new Uint32Array(pixels.data.buffer);
    const most = largest(numbers);
    numbers.forEach((x, at) => (words[at] = colour(x, most)));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const zoom = Math.max(1, Math.min(12, Math.floor(200 / across)));
    canvas.style.width = `${across * zoom}px`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `all ${numbers.length} numbers ${caption}, up to ${few(most, 3)}`);
    return make("figure", {}, make("figcaption", {}, `${caption}, up to ±${few(most, 3)}`), canvas);
  }

  /** What is done with the sums, line by line, down to the number. */
  function lines(found) {
    const { layer, parts, total } = found;
    const texts = [];
    const unit = net.integers && layer.scale;
    switch (layer.kind) {
      case "input":
        texts.push(inputLine(found));
        break;
      case "conv": {
        const write = adding(found);
        texts.push(`${added(found, write)} + ${signed(write(found.bias))} = ${write(total)}`);
        const maps = parts[0].x.length > 1 && parts.length > 1;
        texts.push(maps ? "the sums of the maps, and the bias" : "the sum of the products, and the bias");
        break;
      }
      case "radial_basis": {
        const write = adding(found);
        texts.push(`−(${write(-total)}) = ${write(total)}`);
        texts.push("the sum of the squared differences from the code, negative: the nearer, the larger");
        break;
      }
      case "scale": {
        const sum = parts[0].x.reduce((a, b) => a + b);
        texts.push(`${factor(sum, 6)} · ${factor(parts[0].w[0], 6)} + ${factor(found.bias, 6)} = ${few(total)}`);
        if (parts[0].x.length > 1) texts.push("the sum of the window times the channel's weight, and the bias");
        break;
      }
      case "add": {
        const write = adding(found);
        const terms = parts.map(({ x, w }) => (w ? `${factor(x[0])}·${few(w[0])}` : signed(write(x[0]))));
        texts.push(`${terms.join(" + ")} = ${write(total)}`);
        break;
      }
      case "avg_pool": {
        const n = parts[0].x.length;
        if (!net.integers) texts.push(`${few(total)} / ${n} = ${few(found.value)}`);
        else if (layer.last) texts.push(`the score is the sum, ${few(found.value)}`);
        else texts.push(`⌊(2·${factor(total)} + ${n}) / (2·${n})⌋ = ${few(found.value)}, the mean rounded`);
        break;
      }
      case "flatten":
        texts.push(`${few(total)}, as it is in the map before`);
        break;
      case "softmax": {
        const { most, power, sum } = found;
        const difference = `${few(total)} − ${factor(most)}`;
        texts.push(`exp(${net.integers ? `${few(net.scale)}·(${difference})` : difference}) = ${few(power)}`);
        texts.push("exp of the score, the largest score subtracted");
        texts.push(`${few(power)} / ${few(sum)} = ${few(found.value)}`);
        texts.push("the share of this class in the sum over all classes");
        break;
      }
    }
    if (found.rescaled !== undefined && found.rescaled !== total) texts.push(rescaledLine(found));
    if (layer.activation) texts.push(activationLine(found));
    else if (found.rescaled !== undefined && found.value !== found.rescaled) {
      texts.push(`between −127 and 127: ${few(found.value)}`);
    }
    if (layer.kind === "max_pool" && parts[0].x.length > READABLE) texts.push(`max = ${few(found.value)}`);
    if (unit) texts.push(`one unit stands for ${few(layer.scale)}: ${few(found.value * layer.scale)}`);
    return texts.map((text) => make("p", { className: /\d/.test(text) ? "line" : "soft" }, text));
  }

  /** How to write the sums that make up a number. */
  function adding({ parts, bias = 0, total }) {
    return alike(largest([...parts.map((part) => part.sum), bias, total]));
  }

  /** The sums of a number's maps; of more than a dozen, the largest and the rest. */
  function added({ parts }, write) {
    const sums = parts.map((part) => part.sum);
    const sum = (some) => some.reduce((a, b) => a + b, 0);
    if (parts[0].x.length === 1 || sums.length === 1) return write(sum(sums));
    if (sums.length <= FEW) return plus(sums.map(write));
    sums.sort((a, b) => Math.abs(b) - Math.abs(a));
    const rest = signed(write(sum(sums.slice(SHOWN))));
    return `${plus(sums.slice(0, SHOWN).map(write))} + ${rest} of the other ${sums.length - SHOWN}`;
  }

  function inputLine({ byte, value }) {
    if (byte === null) return `outside of the image: ${few(value)}`;
    if (net.integers) return `the table says ${few(value)} for the byte ${byte}`;
    const { scale, offset } = net.input;
    return `${byte} · ${few(scale, 6)} + ${factor(offset, 6)} = ${few(value)}: the byte, scaled as the training images were`;
  }

  function rescaledLine({ total, multiplier = 1, layer, rescaled }) {
    const product = multiplier === 1 ? few(total) : `${factor(total)}·${few(multiplier)}`;
    const inIntegers = `⌊(${product} + 2^${layer.shift - 1}) / 2^${layer.shift}⌋`;
    return `${few(total)} · ${few(multiplier / 2 ** layer.shift)}, rounded: ${inIntegers} = ${few(rescaled)}`;
  }

  function activationLine({ layer, total, rescaled, value }) {
    const y = few(value);
    if (net.integers) {
      const r = rescaled === undefined ? total : rescaled;
      if (layer.activation === "tanh" || layer.activation === "tanh_scaled") return `127·tanh(${few(r)} / 256), from the table = ${y}`;
      if (layer.activation === "sigmoid") return `⌊(128 + 127·tanh(${few(r)} / 256)) / 2⌋ = ${y}`;
      if (layer.activation === "relu") return `ReLU: between 0 and 127: ${y}`;
      return `leaky ReLU: ${total < 0 ? "rescaled, as it is negative" : "as it is, not being negative"}: ${y}`;
    }
    const x = few(total);
    if (layer.activation === "sigmoid") return `1 / (1 + exp(−${factor(total)})) = ${y}`;
    if (layer.activation === "tanh_scaled") return `1.7159·tanh(2/3 · ${factor(total)}) = ${y}`;
    if (layer.activation === "relu") return `max(0, ${x}) = ${y}`;
    if (layer.activation === "leaky") return total < 0 ? `${few(layer.slope)} · (${x}) = ${y}` : `${x} is not negative: ${y}`;
    return `${layer.activation}(${x}) = ${y}`;
  }

  // ---- Begin

  function layAll() {
    views.forEach(lay);
    views.forEach(paint);
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    if (run) show();
  });
  let width = 0;
  new ResizeObserver(() => {
    if ($("layers").clientWidth === width) return; // the maps themselves made it longer
    width = $("layers").clientWidth;
    layAll();
  }).observe($("layers"));

  readColours();
  listBars();
  if (net.examples.length) example = net.examples[0];
  changed();

  // For those who want to try more from the console, and for tests.
  window.lenet5c = {
    network: net,
    prepared,
    compute,
    forward: (image) => network.forward(net, image),
    explain: (n, k, of = run) => network.explain(net, of, n, k),
    open,
    state: () => ({ run, blank, items, opened }),
  };
})();
