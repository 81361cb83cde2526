/* The network in plain loops: what each layer computes, and why a number is what it is.

   A map is an array of C * H * W numbers, channel by channel and row by row: the number
   of channel c, row i and column j is at (c * H + i) * W + j. Map 0 is the input; layer n
   reads the maps `layer.from` and makes map n.

   C F    channels of a map, of the map after it
   H W    rows and columns of a map
   KH KW  rows and columns of a kernel
   S P    stride, and how many rows and columns of zeros are thought around the map

   A network in floating point computes in float64 and keeps float32. One in 8-bit integers
   computes nothing but integers, and gets the same ones on every machine. */
"use strict";

const network = (function () {
  /** Base64, as the numbers are kept in this file, to a typed array. Their bytes are
      little-endian, as those of all machines that browsers run on. */
  function decoded(text, Kind) {
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let n = 0; n < bytes.length; n++) bytes[n] = letters.charCodeAt(n);
    return new Kind(bytes.buffer);
  }

  // what the description of a layer leaves out
  const USUAL = { kernel: [1, 1], stride: 1, padding: 0, slope: 0 };

  /** The network that the page describes, its numbers decoded. */
  function read(description) {
    const net = { ...description };
    const kinds = net.integers
      ? { weight: Int8Array, bias: Int32Array, multiplier: Int32Array }
      : { weight: Float32Array, bias: Float32Array };
    if (net.tanh) net.tanh = decoded(net.tanh, Int8Array);
    net.input = { ...net.input };
    if (net.integers) net.input.table = decoded(net.input.table, Int8Array);
    const steps = net.layers.map((layer) => {
      const arrays = {};
      for (const [name, Kind] of Object.entries(kinds)) {
        if (layer[name] !== undefined) arrays[name] = decoded(layer[name], Kind);
      }
      return { ...USUAL, ...layer, ...arrays };
    });
    steps[steps.length - 1].last = true; // its numbers are the scores of the classes
    const first = { kind: "input", name: "input", from: [], output: net.input.shape };
    const shape = steps[steps.length - 1].output;
    const shares = { kind: "softmax", name: "probabilities", from: [steps.length] };
    net.layers = [first, ...steps, { ...shares, input: shape, output: shape }];
    return net;
  }

  /** The maps that the network makes of an image of bytes, C x rows x columns. */
  function forward(net, image) {
    const sides = [net.input.shape[0], ...net.input.source];
    const size = sides.reduce((a, b) => a * b);
    if (image.length !== size) {
      throw new RangeError(`image: expected ${size} bytes (${sides.join(" x ")}), got ${image.length}`);
    }
    const maps = [seen(net, image)];
    for (const layer of net.layers.slice(1)) {
      const given = layer.from.map((n) => maps[n]);
      maps.push(layer.kind === "softmax" ? softmax(net, given[0]) : made(net, layer, given));
    }
    return { image, maps, probabilities: maps[maps.length - 1] };
  }

  /** The input: the bytes scaled as the training images were, in the middle of what is
      around an image that is smaller than the input. */
  function seen(net, image) {
    const { shape, background } = net.input;
    const [C, H, W] = shape;
    const x = net.integers ? new Int8Array(C * H * W) : new Float32Array(C * H * W);
    for (let k = 0; k < x.length; k++) {
      const at = pixel(net, k);
      x[k] = at < 0 ? background : scaled(net, image[at]);
    }
    return x;
  }

  /** Where the image has what is at k in the input; -1 if that is outside of it. */
  function pixel(net, k) {
    const [, H, W] = net.input.shape;
    const [rows, columns] = net.input.source;
    const c = Math.floor(k / (H * W));
    const i = (Math.floor(k / W) % H) - Math.floor((H - rows) / 2);
    const j = (k % W) - Math.floor((W - columns) / 2);
    const inside = i >= 0 && i < rows && j >= 0 && j < columns;
    return inside ? (c * rows + i) * columns + j : -1;
  }

  function scaled(net, byte) {
    const { table, scale, offset } = net.input;
    return net.integers ? table[byte] : byte * scale + offset;
  }

  /** All numbers that a layer makes of the maps that it is given. */
  function made(net, layer, given) {
    const [F, OH, OW] = layer.output;
    const Kind = !net.integers ? Float32Array : layer.last ? Int32Array : Int8Array;
    const y = new Kind(F * OH * OW);
    let k = 0;
    for (let f = 0; f < F; f++) {
      for (let i = 0; i < OH; i++) {
        for (let j = 0; j < OW; j++) {
          y[k++] = finished(net, layer, f, total(layer, given, f, i, j));
        }
      }
    }
    return y;
  }

  /** What a layer adds up, or looks for, at one place, before its activation. */
  function total(layer, given, f, i, j) {
    const [x, other] = given;
    const [, OH, OW] = layer.output;
    const k = (f * OH + i) * OW + j;
    switch (layer.kind) {
      case "conv":
        return products(layer, x, f, i, j) + layer.bias[f];
      case "radial_basis":
        return -distance(layer, x, f);
      case "avg_pool":
        return pooled(layer, x, f, i, j, 0, (sum, value) => sum + value);
      case "max_pool":
        return pooled(layer, x, f, i, j, -Infinity, Math.max);
      case "scale":
        return layer.weight[f] * pooled(layer, x, f, i, j, 0, (sum, value) => sum + value) + layer.bias[f];
      case "add": {
        const [u, v] = layer.multiplier || [1, 1];
        return u * x[k] + v * other[k];
      }
      case "activation": // alone
      case "flatten": // the same numbers in the same order, under another shape
        return x[k];
      default:
        throw new Error(`page: no code for layers of kind ${layer.kind}`);
    }
  }

  /** The sum over c, r, t of weight[f][c][r][t] * x[c][i S + r - P][j S + t - P]. A dense
      layer is this with a kernel as large as its input. */
  function products(layer, x, f, i, j) {
    const [C, H, W] = layer.input;
    const [KH, KW] = layer.kernel;
    const weight = layer.weight;
    const top = i * layer.stride - layer.padding;
    const left = j * layer.stride - layer.padding;
    // outside of the map are zeros: the kernel's rows and columns there add nothing
    const firstRow = Math.max(0, -top), lastRow = Math.min(KH, H - top);
    const first = Math.max(0, -left), last = Math.min(KW, W - left);
    let sum = 0;
    for (let c = 0; c < C; c++) {
      for (let r = firstRow; r < lastRow; r++) {
        const a = (c * H + top + r) * W + left;
        const b = ((f * C + c) * KH + r) * KW;
        for (let t = first; t < last; t++) sum += weight[b + t] * x[a + t];
      }
    }
    return sum;
  }

  /** The sum over k of (x[k] - w[f][k])^2, how far the whole input is from a code. */
  function distance(layer, x, f) {
    const code = layer.weight.subarray(f * x.length, (f + 1) * x.length);
    return x.reduce((sum, value, k) => sum + (value - code[k]) ** 2, 0);
  }

  /** What `join` makes of a window's numbers, of those that lie on the map. */
  function pooled(layer, x, c, i, j, begin, join) {
    const [, H, W] = layer.input;
    const [KH, KW] = layer.kernel;
    const top = i * layer.stride - layer.padding;
    const left = j * layer.stride - layer.padding;
    let found = begin;
    for (let r = Math.max(0, top); r < Math.min(H, top + KH); r++) {
      for (let t = Math.max(0, left); t < Math.min(W, left + KW); t++) {
        found = join(found, x[(c * H + r) * W + t]);
      }
    }
    return found;
  }

  /** The number of a map, from a total: the mean of a sum, and the activation. */
  function finished(net, layer, f, total) {
    if (layer.kind === "avg_pool") {
      const n = layer.kernel[0] * layer.kernel[1];
      if (!net.integers) return total / n;
      // the scores may be sums; a mean is rounded to the nearest, halves upwards
      return layer.last ? total : Math.floor((2 * total + n) / (2 * n));
    }
    if (net.integers) return bounded(net, layer, rescaled(layer, f, total));
    return activated(layer, total);
  }

  function activated(layer, x) {
    switch (layer.activation) {
      case "tanh":
        return Math.tanh(x);
      case "tanh_scaled":
        return 1.7159 * Math.tanh((2 / 3) * x);
      case "sigmoid":
        return 1 / (1 + Math.exp(-x));
      case "relu":
        return Math.max(0, x);
      case "leaky":
        return x < 0 ? layer.slope * x : x;
      default:
        return x;
    }
  }

  /** In integers: floor((a m + 2^(s-1)) / 2^s), the total in units of the next map. The
      product has up to 62 bits, more than a float64 holds. */
  function rescaled(layer, f, total) {
    if (!layer.multiplier || (layer.activation === "leaky" && total >= 0)) return total;
    const m = layer.kind === "add" ? 1 : layer.multiplier[factor(layer, f)];
    const s = BigInt(layer.shift);
    return Number((BigInt(total) * BigInt(m) + (1n << (s - 1n))) >> s);
  }

  /** Which multiplier is that of filter f: an activation alone has one for all. */
  function factor(layer, f) {
    return layer.multiplier.length > 1 ? f : 0;
  }

  /** In integers: the activation of a rescaled number, looked up in a table. */
  function bounded(net, layer, r) {
    if (layer.activation === "tanh" || layer.activation === "tanh_scaled") return tanh8(net, r);
    if (layer.activation === "sigmoid") return Math.floor((128 + tanh8(net, r)) / 2);
    if (layer.activation === "relu") return clamp(r, 0, 127);
    return layer.multiplier ? clamp(r, -127, 127) : r;
  }

  function tanh8(net, r) {
    const t = clamp(r, -799, 799);
    return t < 0 ? -net.tanh[-t] : net.tanh[t];
  }

  function clamp(x, least, most) {
    return Math.min(Math.max(x, least), most);
  }

  /** Probabilities: exp(x) of each score over the sum of all of them. */
  function softmax(net, scores) {
    const powers = exponentials(net, scores);
    const sum = powers.reduce((a, b) => a + b);
    return Float32Array.from(powers, (power) => power / sum);
  }

  /** exp(x) of each score; the largest is subtracted first, which changes no share and
      keeps exp from overflowing. */
  function exponentials(net, scores) {
    const unit = net.integers ? net.scale : 1;
    const most = largest(scores);
    return Float64Array.from(scores, (score) => Math.exp((score - most) * unit));
  }

  function largest(scores) {
    return scores.reduce((a, b) => Math.max(a, b));
  }

  /** The channel, row and column of the number at k of a map. */
  function place([, H, W], k) {
    return [Math.floor(k / (H * W)), Math.floor(k / W) % H, k % W];
  }

  /** From where the number at k of a layer's map is computed: of each map that the layer
      reads, the channels from `channel` up to `end`, and in them a window. */
  function reach(layer, k) {
    const [c, i, j] = place(layer.output, k);
    const one = { channel: c, end: c + 1, top: i, left: j, rows: 1, columns: 1 };
    switch (layer.kind) {
      case "input":
        return [];
      case "conv":
      case "scale":
      case "radial_basis":
      case "avg_pool":
      case "max_pool": {
        one.top = i * layer.stride - layer.padding;
        one.left = j * layer.stride - layer.padding;
        [one.rows, one.columns] = layer.kernel;
        if (/conv|radial/.test(layer.kind)) [one.channel, one.end] = [0, layer.input[0]];
        break;
      }
      case "flatten": {
        [one.channel, one.top, one.left] = place(layer.input, k);
        one.end = one.channel + 1;
        break;
      }
      case "softmax": {
        const [C, H, W] = layer.input;
        Object.assign(one, { channel: 0, end: C, top: 0, left: 0, rows: H, columns: W });
      }
    }
    return layer.from.map((map, branch) => ({ ...one, map, branch }));
  }

  /** The arithmetic of one number: where it comes from and what is done with it.

      Returned are `parts`, a window of one channel each, with the numbers `x` in it, the
      weights `w` that they are multiplied with, if any, and the `sum` of the products;
      then, where the layer has them, `bias` and `total`, in integers `rescaled`, of a
      probability `most`, `power` and `sum`; and `value`, computed once more from these. */
  function explain(net, run, n, k) {
    within("n", n, net.layers.length);
    within("k", k, run.maps[n].length);
    const layer = net.layers[n];
    const [channel, row, column] = place(layer.output, k);
    const found = { n, k, layer, channel, row, column, parts: [] };
    if (layer.kind === "input") {
      const at = pixel(net, k);
      found.byte = at < 0 ? null : run.image[at];
      found.value = at < 0 ? net.input.background : scaled(net, found.byte);
      return found;
    }
    for (const window of reach(layer, k)) {
      for (let c = window.channel; c < window.end; c++) {
        found.parts.push(part(run, layer, channel, window, c));
      }
    }
    if (layer.kind === "softmax") {
      const scores = run.maps[layer.from[0]];
      const powers = exponentials(net, scores);
      Object.assign(found, { total: scores[k], most: largest(scores), power: powers[k] });
      found.sum = powers.reduce((a, b) => a + b);
      found.value = found.power / found.sum;
      return found;
    }
    const sums = found.parts.map((each) => each.sum);
    found.total = layer.kind === "max_pool" ? sums[0] : sums.reduce((a, b) => a + b);
    if (layer.kind === "radial_basis") found.total = -found.total;
    if (layer.bias) {
      found.bias = layer.bias[channel];
      found.total += found.bias;
    }
    if (net.integers && layer.kind !== "avg_pool" && layer.multiplier) {
      if (layer.kind !== "add") found.multiplier = layer.multiplier[factor(layer, channel)];
      found.rescaled = rescaled(layer, channel, found.total);
    }
    found.value = finished(net, layer, channel, found.total);
    return found;
  }

  function within(name, number, count) {
    if (Number.isInteger(number) && number >= 0 && number < count) return;
    throw new RangeError(`${name}: expected 0 to ${count - 1}, got ${number}`);
  }

  /** A window of channel c, what it is multiplied with for filter f, and the sum; of max
      pooling the largest. */
  function part(run, layer, f, window, c) {
    const { map, top, left, rows, columns } = window;
    const [C, H, W] = layer.input;
    const found = { map, channel: c, top, left, rows, columns, x: [], inside: [] };
    for (let r = top; r < top + rows; r++) {
      for (let t = left; t < left + columns; t++) {
        const inside = r >= 0 && r < H && t >= 0 && t < W;
        found.inside.push(inside);
        found.x.push(inside ? run.maps[map][(c * H + r) * W + t] : 0);
      }
    }
    if (/conv|radial/.test(layer.kind)) {
      const size = rows * columns;
      const begin = (f * C + c) * size;
      found.w = Array.from(layer.weight.subarray(begin, begin + size));
    } else if (layer.kind === "scale") {
      found.w = Array(rows * columns).fill(layer.weight[f]);
    } else if (layer.kind === "add" && layer.multiplier) {
      found.w = [layer.multiplier[window.branch]];
    }
    const term =
      layer.kind === "radial_basis" ? (x, w) => (x - w) ** 2 : (x, w) => x * w;
    const terms = found.w ? found.x.map((value, at) => term(value, found.w[at])) : found.x;
    found.products = terms;
    found.sum =
      layer.kind === "max_pool"
        ? Math.max(...terms.filter((_, at) => found.inside[at]))
        : terms.reduce((a, b) => a + b);
    return found;
  }

  return { read, forward, explain, reach, place };
})();
