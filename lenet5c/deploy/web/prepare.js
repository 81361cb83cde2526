/* A drawing or photograph of a digit or another sign, made into an image like MNIST's.
 *
 * This is lenet5c/data/prepare.py, `prepare`, step by step and with the same names, and
 * gives the same bytes: who changes one changes the other. Why a step is taken is said
 * there. What Python takes from NumPy, SciPy and Pillow stands at the end.
 *
 * A grid is { height, width, values }, its values row after row. Python's float32 are
 * Float32Array here; `f32` rounds a number in between like them.
 */
const prepare = (() => {
  "use strict";

  const f32 = Math.fround;

  // All lengths are shares of the picture's or of the sign's, unless they say pixels.
  const PIXELS = 500_000; // the most that a picture is worked on with
  const CONTRAST = 0.02; // of the range between black and white: less is never ink
  const SMALL = 100; // pixels: a picture with a shorter side than that is not smoothed
  const NOISE = 5.0; // standard deviations of the paper's noise that ink stands out
  const WINDOWS = [0.35, 0.2, 0.12, 0.07]; // of the picture: wider than strokes may be
  const SOFT = 0.07; // of the picture: an edge as wide as that is a shadow's
  const FAINT = 0.15; // of the strongest ink's contrast: less is a shadow or dirt
  const EDGE = 0.35; // of a stroke's full darkness: what is darker belongs to it
  const SMALLEST = 0.02; // of the picture's longer side: less is a speck
  const GAP = 0.012; // of the picture: a fragment that is nearer belongs to the sign
  const THICKEST = 0.235; // of a tight crop's height: half of a wider one is a shadow
  const DECENT = 0.3; // of the largest piece's length: it may be the sign instead
  const THICKNESS = [2.2, 4.5]; // pixels at 28x28: MNIST's strokes

  /**
   * The one sign on a picture, as MNIST's images were made.
   *
   * rgba: ImageData.data, 4 bytes a pixel; returns size * size bytes, light on black,
   * or null if there is no sign.
   */
  function prepare(rgba, width, height, size = 28) {
    const found = find(rgba, width, height);
    if (!found.signs.length) return null;
    const most = found.signs.reduce((a, b) => (b.weight > a.weight ? b : a));
    return drawn(found, most, size);
  }

  /** A connected piece of ink, or several that are one sign. */
  class Piece {
    constructor(labels, top, left, bottom, right, weight) {
      Object.assign(this, { labels, top, left, bottom, right, weight });
    }
    get height() {
      return this.bottom - this.top;
    }
    get width() {
      return this.right - this.left;
    }
    get length() {
      return Math.max(this.height, this.width);
    }
  }

  /** { ink, labels, signs }: the signs on a picture; labels of pieces, 0 is paper. */
  function find(rgba, width, height) {
    let [colours, times, isInk] = read(rgba, width, height);
    if (isInk) {
      const [ink] = colours;
      const [labels, pieces] = piecesOf(ink, 0);
      return { ink, labels, signs: joined(pieces, GAP * across(ink)) };
    }
    if (times === 1 && shortest(colours[0]) >= SMALL)
      colours = colours.map((plane) => gaussianFilter(plane, 1)); // the noise
    const [top, left, bottom, right] = sheet(colours);
    colours = colours.map((plane) => crop(plane, top, left, bottom, right));
    const tight = tightOf(colours);
    const ink = tight ?? inkOf(colours);
    // the little paper of a tight crop is blurred ink rather than noise
    const [labels, all] = piecesOf(ink, tight ? 0 : noiseOf(ink));
    let signs = joined(withoutFrame(labels, all), GAP * across(ink));
    if (!tight) signs = signs.filter((sign) => isStroke(ink, labels, sign));
    return { ink, labels, signs };
  }

  /** The side of a square as large as the picture, in pixels. */
  function across(grid) {
    return Math.sqrt(grid.height * grid.width);
  }

  function shortest(grid) {
    return Math.min(grid.height, grid.width);
  }

  // Reading

  /** [a grid from 0 to 1 for each colour, how many times it was reduced, is it ink]. */
  function read(rgba, width, height) {
    let times = Math.ceil(Math.sqrt((height * width) / PIXELS));
    times = Math.max(1, Math.min(times, height, width));
    const rows = Math.floor(height / times);
    const columns = Math.floor(width / times);
    const reduced = (channel) => {
      const means = floats(rows, columns);
      for (let y = 0; y < rows; y++)
        for (let x = 0; x < columns; x++) {
          let total = 0;
          for (let i = 0; i < times; i++)
            for (let j = 0; j < times; j++)
              total += rgba[4 * ((y * times + i) * width + x * times + j) + channel];
          means.values[y * columns + x] = f32(total / (times * times)) / 255;
        }
      return means;
    };
    const alpha = reduced(3);
    const clear = mean(not(above(alpha, 0.5)).values);
    let colours = [0, 1, 2].map(reduced);
    if (clear > 0.5 || (clear > 0.25 && isPlain(colours, alpha))) {
      const least = range(alpha.values)[0];
      return [[mapped(alpha, (value) => value - least)], times, true];
    }
    const opaque = above(alpha, 0.5);
    colours = colours.map((plane) => {
      const paper = median(inside(plane, opaque));
      return mapped(plane, (value, i) => {
        const a = alpha.values[i];
        return f32(a * value) + f32(f32(1 - a) * paper);
      });
    });
    if (colours.every((plane) => isEqual(plane, colours[0]))) colours = [colours[0]];
    return [colours, times, false];
  }

  /** Whether what is not transparent has one colour. */
  function isPlain(colours, alpha) {
    const solid = above(alpha, 0.9);
    return colours.every((plane) => {
      const [low, high] = range(inside(plane, solid));
      return low > high || f32(high - low) < f32(CONTRAST);
    });
  }

  // Paper and ink

  /** A grid: distance from the paper's colour towards that of the ink, above light. */
  function inkOf(colours) {
    const [first] = colours;
    const sharp = colours.map((plane) => minus(plane, paperOf(plane)));
    const distance = lengths(sharp);
    const side = shortest(first) >= SMALL ? 9 : 3;
    const grain = colours.map((plane) => minus(plane, uniformFilter(plane, side)));
    const noise = 1.4826 * median(lengths(grain).values);
    const strongest = quantile(distance.values, 0.999);
    const threshold = Math.max(NOISE * noise, CONTRAST, 2 * FAINT * strongest);
    const [labels, all] = labelled(above(distance, threshold), distance);
    const pieces = withoutFrame(labels, all);
    if (!pieces.length) return floats(first.height, first.width);
    const strong = within(labels, pieces.flatMap((piece) => piece.labels));
    const towards = sharp.map((plane) => {
      const weighted = mapped(plane, (value, i) => value * distance.values[i]);
      return sum(inside(weighted, strong));
    });
    return levelled(along(colours, towards));
  }

  /** Without light and shadows, which are wider than strokes: a top-hat transform. */
  function levelled(ink) {
    const topHat = (share) => {
      const window = Math.max(3, round(share * across(ink)));
      const size = [ink.height, ink.width].map((side) => Math.min(window, side));
      const top = minus(ink, greyOpening(ink, size));
      const middle = median(top.values);
      return mapped(top, (value) => value - middle);
    };
    ink = ruled(topHat(WINDOWS[0]));
    let best = ink;
    const strong = above(ink, 0.6 * quantile(ink.values, 0.999));
    for (const share of WINDOWS.slice(1)) {
      const top = topHat(share);
      const [left, before] = [top, ink].map((grid) => sum(inside(grid, strong)));
      if (!strong.values.includes(1) || left < 0.9 * before) break;
      best = top;
    }
    return best;
  }

  /** Without the lines of ruled or squared paper, which go from side to side. */
  function ruled(ink) {
    if (shortest(ink) < SMALL) return ink;
    const threshold = Math.max(NOISE * noiseOf(ink), CONTRAST);
    const thin = Math.max(9, round(0.015 * across(ink)));
    const [horizontal, vertical] = [ink, transposed(ink)].map((grid) => {
      const { height, width } = grid;
      const strips = 32;
      const reach = round(0.02 * width);
      const wide = Math.floor(width / strips);
      const quantiles = new Float64Array(height * strips);
      for (let y = 0; y < height; y++)
        for (let i = 0; i < strips; i++) {
          const start = y * width + i * wide;
          const part = grid.values.subarray(start, start + wide);
          quantiles[y * strips + i] = quantile(part, 0.4);
        }
      const parts = { height, width: strips, values: quantiles };
      const line = maximumFilter1d(parts, 0, 3);
      const near = maximumFilter1d(line, 0, 2 * reach + 1);
      const thick = greyOpening(line, [thin, 1]); // a stroke is thicker
      const result = floats(height, width);
      for (let y = 0; y < height; y++) {
        const beside = near.values.subarray(y * strips, (y + 1) * strips);
        const level = quantile(beside, 0.15);
        if (level <= threshold) continue;
        for (let x = 0; x < width; x++) {
          const i = y * strips + Math.min(Math.floor(x / wide), strips - 1);
          const darkness = Math.min(line.values[i] - thick.values[i], 1.5 * level);
          result.values[y * width + x] = Math.max(darkness, 0);
        }
      }
      return result;
    });
    const upright = transposed(vertical);
    return mapped(ink, (value, i) => {
      const line = Math.max(horizontal.values[i], upright.values[i]);
      return Math.max(value - line, Math.min(value, 0));
    });
  }

  /** The paper's deviation; ink is above 0, and half of the noise is below. */
  function noiseOf(ink) {
    const below = ink.values.filter((value) => value < 0);
    return below.length ? -1.4826 * median(below) : 0;
  }

  /** One colour of the empty paper: the median of a wide neighbourhood. */
  function paperOf(plane) {
    const step = Math.max(1, round(across(plane) / 64));
    const means = uniformFilter(plane, step);
    const rows = Math.ceil(plane.height / step);
    const columns = Math.ceil(plane.width / step);
    let cells = floats(rows, columns);
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++)
        cells.values[y * columns + x] = means.values[(y * plane.width + x) * step];
    const window = Math.max(3, round((0.3 * across(plane)) / step));
    cells = medianFilter(cells, window);
    return zoom(cells, plane.height, plane.width);
  }

  /** [top, left, bottom, right] of the sheet, if a table is seen around it. */
  function sheet(colours) {
    const tone = toneOf(colours);
    const { height, width } = tone;
    const everything = [0, 0, height, width];
    const [threshold, separation] = otsu(tone);
    const light = above(tone, threshold);
    const border = mean(borderOf(light));
    if (separation < 0.85 || (border > 0.05 && border < 0.95)) return everything;
    const [labels, count] = label(border < 0.5 ? light : not(light), false);
    if (!count) return everything;
    const areas = counts(labels.values, count).fill(0, 0, 1);
    const largest = areas.indexOf(range(areas)[1]);
    const mask = within(labels, [largest]);
    const depth = range(distanceTransform(mask).values)[1];
    const longest = Math.max(height, width);
    if (mean(mask.values) < 0.3 || depth < 0.15 * longest) return everything;
    const [top, left, bottom, right] = boxes(labels, count)[largest];
    const edge = 1 + round(0.01 * longest);
    return [top + edge, left + edge, bottom - edge, right - edge];
  }

  /** Ink of a tight crop, which has too little paper to estimate the light on it. */
  function tightOf(colours) {
    let tone = toneOf(colours);
    let ink, separation;
    for (let i = 0; i < 2; i++) {
      // once more with even light
      let threshold;
      [threshold, separation] = otsu(tone);
      const light = above(tone, threshold);
      const dark = not(light);
      const border = mean(borderOf(dark));
      const isLight = border > 0.95 || (border > 0.6 && reaches(light));
      ink = isLight ? light : dark;
      const share = mean(ink.values);
      if (separation < 0.65 || share <= 0.2 || share >= 0.95) return null;
      tone = minus(tone, planeThrough(tone, not(ink)));
    }
    const contrast = median(inside(tone, ink));
    const thickest = range(distanceTransform(padded(ink, 1)).values)[1];
    if (
      separation < (isWhole(ink) ? 0.71 : 0.76) ||
      Math.abs(contrast) < 5 * CONTRAST ||
      !reaches(ink) ||
      mean(borderOf(ink)) > 0.99 ||
      thickest > THICKEST * ink.height
    )
      return null;
    return contrast > 0 ? tone : mapped(tone, (value) => -value);
  }

  /** A grid along the axis on which the colours differ most; light is positive. */
  function toneOf(colours) {
    if (colours.length === 1) return colours[0];
    const means = colours.map((plane) => mean(plane.values));
    const covariance = colours.map((a, i) =>
      colours.map((b, j) => {
        let total = 0;
        for (let k = 0; k < a.values.length; k++)
          total += (a.values[k] - means[i]) * (b.values[k] - means[j]);
        return total;
      }),
    );
    const [values, vectors] = eigen(covariance);
    const largest = values.lastIndexOf(Math.max(...values));
    const axis = vectors.map((row) => row[largest]);
    const sign = sum(axis) < 0 ? -1 : 1;
    return along(colours, axis.map((value) => sign * value));
  }

  /** The plane through the paper's tones, by least squares. */
  function planeThrough(tone, paper) {
    const { height, width } = tone;
    const matrix = [0, 1, 2].map(() => [0, 0, 0]);
    const right = [0, 0, 0];
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        if (!paper.values[y * width + x]) continue;
        const terms = [1, y, x];
        for (let i = 0; i < 3; i++) {
          right[i] += terms[i] * tone.values[y * width + x];
          for (let j = 0; j < 3; j++) matrix[i][j] += terms[i] * terms[j];
        }
      }
    // by eigenvectors: of several planes through a line of paper, the evenest
    const [values, vectors] = eigen(matrix);
    const least = 1e-12 * Math.max(...values);
    const plane = [0, 0, 0];
    for (let k = 0; k < 3; k++) {
      if (values[k] <= least) continue;
      const share = sum(right.map((value, i) => value * vectors[i][k])) / values[k];
      for (let i = 0; i < 3; i++) plane[i] += share * vectors[i][k];
    }
    return mapped(tone, (_, i) => {
      const x = i % width;
      return plane[0] + plane[1] * ((i - x) / width) + plane[2] * x;
    });
  }

  /** [threshold between two classes, share of the variance that it explains]. */
  function otsu(tone) {
    const { values } = tone;
    let [low, high] = range(values);
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const bins = 256;
    const step = (high - low) / bins;
    const edge = (i) => (i === bins ? high : i * step + low);
    const found = new Float64Array(bins);
    for (const value of values) {
      let i = Math.min(Math.floor(((value - low) / (high - low)) * bins), bins - 1);
      if (value < edge(i)) i--;
      else if (i < bins - 1 && value >= edge(i + 1)) i++;
      found[i]++;
    }
    const below = new Float64Array(bins);
    const moment = new Float64Array(bins);
    let [count, first] = [0, 0];
    for (let i = 0; i < bins; i++) {
      below[i] = (count += found[i]) / values.length;
      moment[i] = (first += (found[i] * (edge(i + 1) + edge(i))) / 2) / values.length;
    }
    let [best, most] = [0, 0];
    for (let i = 0; i < bins; i++) {
      const between =
        (moment[bins - 1] * below[i] - moment[i]) ** 2 / (below[i] * (1 - below[i]));
      if (Number.isFinite(between) && between > most) [best, most] = [i, between];
    }
    const middle = mean(values);
    let total = 0;
    for (const value of values) total += (value - middle) ** 2;
    total /= values.length;
    return [edge(best + 1), total ? most / total : 0];
  }

  /** The values of the first and last row and column. */
  function borderOf({ height, width, values }) {
    const border = [...values.slice(0, width), ...values.slice((height - 1) * width)];
    for (const x of [0, width - 1])
      for (let y = 0; y < height; y++) border.push(values[y * width + x]);
    return border;
  }

  /** Whether nearly all of it is one piece, as noise never is. */
  function isWhole(mask) {
    const [labels, count] = label(mask, false);
    const areas = counts(labels.values, count).subarray(1);
    return areas.reduce((a, b) => Math.max(a, b), 0) > 0.95 * sum(areas);
  }

  /** Whether its large pieces go from side to side and from top to bottom. */
  function reaches(mask) {
    const { height, width } = mask;
    const [labels, count] = label(mask, true);
    const areas = counts(labels.values, count).fill(0, 0, 1);
    const least = 0.05 * range(areas)[1];
    const rows = new Uint8Array(height);
    const columns = new Uint8Array(width);
    for (let y = 0, i = 0; y < height; y++)
      for (let x = 0; x < width; x++, i++)
        if (areas[labels.values[i]] > least) rows[y] = columns[x] = 1;
    const shares = [mean(rows), mean(columns)];
    return Math.max(...shares) > 0.75 && Math.min(...shares) > 0.55;
  }

  // Pieces of ink and signs

  /** [labels, pieces]. */
  function piecesOf(ink, noise) {
    const strongest = quantile(ink.values, 0.999);
    const threshold = Math.max(NOISE * noise, CONTRAST, FAINT * strongest);
    const [labels, count] = label(above(ink, threshold), true);
    const peaks = new Float32Array(count + 1);
    for (let i = 0; i < labels.values.length; i++) {
      const number = labels.values[i];
      if (ink.values[i] > peaks[number]) peaks[number] = ink.values[i];
    }
    const edges = peaks.map((peak) => f32(EDGE) * peak).fill(Infinity, 0, 1);
    const mask = masks(ink.height, ink.width);
    for (let i = 0; i < mask.values.length; i++)
      mask.values[i] = ink.values[i] > edges[labels.values[i]] ? 1 : 0;
    return labelled(mask, ink);
  }

  /** [labels, pieces] of ink in a mask, without specks. */
  function labelled(mask, ink) {
    const [labels, count] = label(mask, true);
    const weights = new Float64Array(count + 1);
    for (let i = 0; i < labels.values.length; i++)
      weights[labels.values[i]] += ink.values[i];
    const pieces = boxes(labels, count)
      .map((box, number) => new Piece([number], ...box, weights[number]))
      .slice(1);
    const longest = Math.max(mask.height, mask.width);
    const least = Math.max(SMALLEST * longest, Math.min(8, 0.2 * longest));
    let large = pieces.filter((piece) => piece.length >= least);
    if (pieces.length > 20 * large.length)
      // the largest of many specks is one of them
      large = pieces.filter((piece) => piece.length >= 2 * least);
    return [labels, large];
  }

  /** Without the table's edge, a page's frame, a neighbour's half sign. */
  function withoutFrame(labels, pieces) {
    const { height, width } = labels;
    const most = range(labels.values)[1];
    const areas = counts(labels.values, most);
    const contact = counts(borderOf(labels), most);
    const longest = pieces
      .filter((piece) => !contact[piece.labels[0]])
      .reduce((length, piece) => Math.max(length, piece.length), 0);
    const stays = (piece) => {
      const number = piece.labels[0];
      const box = piece.height * piece.width;
      const touched = contact[number] / piece.length;
      const decent = touched > 0.5 ? 0 : DECENT * piece.length;
      const small = piece.length < 0.25 * Math.max(height, width);
      const solid = areas[number] > 0.45 * box && box < 0.5 * height * width;
      const shares = [piece.height / height, piece.width / width];
      const narrow = Math.min(...shares) < 0.05;
      const crosses = Math.max(...shares) > 0.95;
      const beside = touched > 0.8 && solid;
      return !(longest > decent || small || beside || (narrow && crosses));
    };
    return pieces.filter((piece) => !contact[piece.labels[0]] || stays(piece));
  }

  /** Pieces that are one sign, such as the strokes of = and ä, made one. */
  function joined(pieces, near) {
    let waiting = [...pieces].sort((a, b) => a.length - b.length);
    const signs = [];
    while (waiting.length) {
      const sign = waiting.pop();
      const strokes = waiting.filter((piece) => isOneSign(sign, piece, near));
      if (!strokes.length) {
        signs.push(sign);
        continue;
      }
      waiting = waiting.filter((piece) => !strokes.includes(piece));
      // it may have more strokes, as it is now
      const all = [sign, ...strokes];
      const every = (name) => all.map((piece) => piece[name]);
      waiting.push(
        new Piece(
          every("labels").flat(),
          Math.min(...every("top")),
          Math.min(...every("left")),
          Math.max(...every("bottom")),
          Math.max(...every("right")),
          sum(every("weight")),
        ),
      );
    }
    return signs;
  }

  /** Whether b, which is shorter, is another stroke of a; near is in pixels. */
  function isOneSign(a, b, near) {
    const gap = Math.max(a.top, b.top) - Math.min(a.bottom, b.bottom);
    const aside = Math.max(a.left, b.left) - Math.min(a.right, b.right);
    const isFragment = Math.max(gap, aside) < near && b.length < 0.6 * a.length;
    if (isFragment) return true;
    const shared = overlap(a, b);
    if (shared < 0.4 || gap <= 0) return shared > 0.5;
    const low = Math.min(a.height, b.height);
    const longest = Math.max(a.length, b.length);
    if (low < 0.5 * longest) return gap < 0.5 * longest;
    return gap < 0.1 * (a.height + b.height); // else they are signs of two lines
  }

  /** The columns that both have, as a part of the narrower one's. */
  function overlap(a, b) {
    const columns = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    return columns / Math.min(a.width, b.width);
  }

  /** Whether its edges are sharp and it is thin, and no shadow or stain. */
  function isStroke(ink, labels, sign) {
    const side = across(ink);
    const [part, own] = cut(ink, labels, sign, round(0.03 * side) + 1);
    const fine = Math.max(1, 0.006 * side);
    const steepest = range(inside(gradientMagnitude(part, fine), own))[1];
    const highest = range(inside(gaussianFilter(part, fine), own))[1];
    const thickest = 2 * range(distanceTransform(padded(own, 1)).values)[1];
    const sharp = highest < f32(f32(Math.max(SOFT * side, 4)) * steepest);
    return sharp && thickest < 0.7 * sign.length;
  }

  /** [ink near a sign, mask of its own, mask of that of others]. */
  function cut(ink, labels, sign, around) {
    const box = [
      Math.max(0, sign.top - around),
      Math.max(0, sign.left - around),
      Math.min(ink.height, sign.bottom + around),
      Math.min(ink.width, sign.right + around),
    ];
    const numbers = crop(labels, ...box);
    const own = within(numbers, sign.labels);
    const others = mapped(
      numbers,
      (number, i) => number > 0 && !own.values[i],
      Uint8Array,
    );
    return [crop(ink, ...box), own, others];
  }

  // Drawing

  /** size * size bytes of a sign, at its size and place in MNIST's images. */
  function drawn(found, sign, size) {
    const [part, own, others] = cut(found.ink, found.labels, sign, 3);
    const near = dilated(dilated(own));
    const full = median(inside(part, own));
    const value = asThick(
      mapped(part, (ink, i) =>
        near.values[i] && !others.values[i] ? Math.min(Math.max(ink / full, 0), 1) : 0,
      ),
    );
    const [top, left, bottom, right] = extent(above(value, 0.2));
    let field = (Math.max(bottom - top, right - left) * 28) / 20;
    // one of MNIST's images: not resized
    const exact = Math.abs(field - size) <= (1.5 * size) / 28;
    field = exact ? size : field;
    // of pixel (14, 14) as in MNIST
    const middle = (field * (Math.floor(size / 2) + 0.5)) / size;
    let [y, x] = centreOfMass(value).map((centre) => centre + 0.5 - middle);
    y = Math.min(Math.max(y, bottom - field), top);
    x = Math.min(Math.max(x, right - field), left);
    if (exact) [y, x] = [round(y), round(x)];
    const pad = Math.ceil(field) + 1;
    const box = [y + pad, x + pad, y + pad + field, x + pad + field];
    const image = resize(padded(value, pad), size, size, box).values;
    return Uint8Array.from(image, (v) => round(f32(Math.min(Math.max(v, 0), 1) * 255)));
  }

  /** 0 to 1, larger if its strokes are made as thick as MNIST's. */
  function asThick(value) {
    const { height, width } = value;
    // to have pixels to measure by
    const times = Math.max(1, Math.ceil(100 / Math.max(height, width)));
    const small = above(resize(value, height * times, width * times), 0.5);
    const [top, left, bottom, right] = extent(small);
    const unit = Math.max(bottom - top, right - left) / 20;
    const mask = padded(small, 1 + Math.floor(THICKNESS[0] * unit));
    const depth = distanceTransform(mask);
    // a bar's mean depth is a fourth
    const thickness = (4 * mean(inside(depth, mask)) - 1) / unit;
    const [least, most] = THICKNESS;
    const more = Math.min(Math.max(thickness, least), most) - thickness;
    if (Math.abs(more) < 0.1) return value;
    const outside = distanceTransform(not(mask)).values;
    return mapped(
      depth,
      (inner, i) => {
        const signed = mask.values[i] ? inner : 1 - outside[i];
        return Math.min(Math.max(signed + (more / 2) * unit, 0), 1);
      },
      Float32Array,
    );
  }

  /** [first row, first column, and those after the last with anything in them]. */
  function extent(mask) {
    return boxes(mask, 1)[1];
  }

  // Grids

  function floats(height, width) {
    return { height, width, values: new Float32Array(height * width) };
  }

  function masks(height, width) {
    return { height, width, values: new Uint8Array(height * width) };
  }

  /** A grid of f(value, i) of each value, in an array of the same or the given kind. */
  function mapped({ height, width, values }, f, Kind = values.constructor) {
    const result = new Kind(values.length);
    for (let i = 0; i < values.length; i++) result[i] = f(values[i], i);
    return { height, width, values: result };
  }

  // loops of their own: they are most of the work, and a call for each value is slow

  function minus(a, b) {
    const result = floats(a.height, a.width);
    for (let i = 0; i < a.values.length; i++)
      result.values[i] = a.values[i] - b.values[i];
    return result;
  }

  /** Where a float32 grid is greater: 0 or 1. */
  function above(grid, threshold) {
    const least = f32(threshold);
    const result = masks(grid.height, grid.width);
    for (let i = 0; i < grid.values.length; i++)
      result.values[i] = grid.values[i] > least ? 1 : 0;
    return result;
  }

  function not(mask) {
    const result = masks(mask.height, mask.width);
    for (let i = 0; i < mask.values.length; i++) result.values[i] = 1 - mask.values[i];
    return result;
  }

  function isEqual(a, b) {
    for (let i = 0; i < a.values.length; i++)
      if (a.values[i] !== b.values[i]) return false;
    return true;
  }

  /** Where a grid of labels has one of these. */
  function within(labels, numbers) {
    const wanted = new Uint8Array(1 + range(labels.values)[1]);
    for (const number of numbers) wanted[number] = 1;
    const result = masks(labels.height, labels.width);
    for (let i = 0; i < labels.values.length; i++)
      result.values[i] = wanted[labels.values[i]];
    return result;
  }

  /** The values where a mask is set. */
  function inside({ values }, mask) {
    const result = new values.constructor(values.length);
    let count = 0;
    for (let i = 0; i < values.length; i++)
      if (mask.values[i]) result[count++] = values[i];
    return result.subarray(0, count);
  }

  function crop({ width, values }, top, left, bottom, right) {
    const part = new values.constructor((bottom - top) * (right - left));
    for (let y = top; y < bottom; y++)
      part.set(
        values.subarray(y * width + left, y * width + right),
        (y - top) * (right - left),
      );
    return { height: bottom - top, width: right - left, values: part };
  }

  /** With zeros around. */
  function padded({ height, width, values }, pad) {
    const wide = width + 2 * pad;
    const result = new values.constructor((height + 2 * pad) * wide);
    for (let y = 0; y < height; y++)
      result.set(values.subarray(y * width, (y + 1) * width), (y + pad) * wide + pad);
    return { height: height + 2 * pad, width: wide, values: result };
  }

  function transposed({ height, width, values }) {
    const result = new values.constructor(values.length);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) result[x * height + y] = values[y * width + x];
    return { height: width, width: height, values: result };
  }

  /** The length of each pixel's vector. */
  function lengths(planes) {
    const squares = mapped(planes[0], (value) => value * value);
    for (const { values } of planes.slice(1))
      for (let i = 0; i < values.length; i++)
        squares.values[i] += f32(values[i] * values[i]);
    return mapped(squares, Math.sqrt);
  }

  /** Each pixel's colour along an axis, of any length. */
  function along(colours, axis) {
    const length = Math.sqrt(sum(axis.map((value) => value * value)));
    const unit = axis.map((value) => value / length);
    const { height, width, values: red } = colours[0];
    const result = floats(height, width);
    for (let i = 0; i < red.length; i++) {
      let value = red[i] * unit[0];
      for (let c = 1; c < unit.length; c++) value += colours[c].values[i] * unit[c];
      result.values[i] = value;
    }
    return result;
  }

  // Numbers, as in NumPy

  /** To the nearest whole number, half to the even one, like Python. */
  function round(value) {
    const up = Math.round(value);
    return up - value === 0.5 && up % 2 ? up - 1 : up;
  }

  function sum(values) {
    let total = 0;
    for (let i = 0; i < values.length; i++) total += values[i];
    return total;
  }

  function mean(values) {
    return sum(values) / values.length;
  }

  /** [least, greatest]; of nothing [Infinity, -Infinity]. */
  function range(values) {
    let low = Infinity;
    let high = -Infinity;
    for (let i = 0; i < values.length; i++) {
      if (values[i] < low) low = values[i];
      if (values[i] > high) high = values[i];
    }
    return [low, high];
  }

  /** How many there are of each number from 0 to `most`. */
  function counts(numbers, most) {
    const result = new Float64Array(most + 1);
    for (let i = 0; i < numbers.length; i++) result[numbers[i]]++;
    return result;
  }

  /** Puts in order as far as needed: the k-th is at k, none before it is greater. */
  function select(values, k) {
    let first = 0;
    let last = values.length - 1;
    while (first < last) {
      const pivot = values[(first + last) >> 1];
      let i = first;
      let j = last;
      while (i <= j) {
        while (values[i] < pivot) i++;
        while (values[j] > pivot) j--;
        if (i > j) break;
        const value = values[i];
        values[i++] = values[j];
        values[j--] = value;
      }
      if (k <= j) last = j;
      else if (k >= i) first = i;
      else break;
    }
    return values[k];
  }

  /** Of a Float32Array. */
  function median(values) {
    const sorted = values.slice();
    const half = values.length >> 1;
    const upper = select(sorted, half);
    if (values.length % 2) return upper;
    return f32(f32(range(sorted.subarray(0, half))[1] + upper) / 2);
  }

  /** The value above a share of the others, between two by a line. */
  function quantile(values, share) {
    const sorted = values.slice();
    const place = (values.length - 1) * share;
    const k = Math.floor(place);
    const lower = select(sorted, k);
    if (k + 1 === values.length) return lower;
    const upper = range(sorted.subarray(k + 1))[0];
    const t = place - k;
    const step = upper - lower;
    return t < 0.5 ? lower + step * t : upper - step * (1 - t);
  }

  /** [values, vectors as columns] of a symmetric matrix, by Jacobi's rotations. */
  function eigen(matrix) {
    const n = matrix.length;
    const a = matrix.map((row) => [...row]);
    const vectors = a.map((_, i) => a.map((__, j) => Number(i === j)));
    for (let sweep = 0; sweep < 30; sweep++)
      for (let p = 0; p < n; p++)
        for (let q = p + 1; q < n; q++) {
          if (!a[p][q]) continue;
          const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
          const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
          const c = 1 / Math.hypot(t, 1);
          const s = t * c;
          for (const row of [...a, ...vectors])
            [row[p], row[q]] = [c * row[p] - s * row[q], s * row[p] + c * row[q]];
          for (let k = 0; k < n; k++)
            [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
        }
    return [a.map((row, i) => row[i]), vectors];
  }

  // Filters, as in SciPy's ndimage

  /** The place of pixel i in a line that is continued by its mirror image. */
  function mirrored(i, length) {
    const place = ((i % (2 * length)) + 2 * length) % (2 * length);
    return Math.min(place, 2 * length - 1 - place);
  }

  /**
   * Each column (axis 0) or row (axis 1) through `filter(line, out)`, where line has
   * `before` and `after` mirrored values more than out.
   */
  function filtered({ height, width, values }, axis, before, after, filter) {
    const [lines, length] = axis ? [height, width] : [width, height];
    const [next, step] = axis ? [width, 1] : [1, width];
    const line = new Float64Array(before + length + after);
    const places = Int32Array.from(line, (_, i) => step * mirrored(i - before, length));
    const out = new Float64Array(length);
    const result = new values.constructor(values.length);
    for (let k = 0; k < lines; k++) {
      for (let i = 0; i < line.length; i++) line[i] = values[k * next + places[i]];
      filter(line, out);
      for (let i = 0; i < length; i++) result[k * next + i * step] = out[i];
    }
    return { height, width, values: result };
  }

  /** A Gaussian, or its derivative, along one axis. */
  function gaussianFilter1d(grid, axis, sigma, order) {
    const reach = Math.floor(4 * sigma + 0.5);
    const kernel = [];
    for (let i = 0; i <= reach; i++)
      kernel.push(Math.exp((-0.5 / sigma ** 2) * i ** 2));
    const total = 2 * sum(kernel) - 1;
    // kernel[i] is that of both sides, of which the derivative's is -kernel[i]
    for (let i = 0; i <= reach; i++) kernel[i] *= (order ? i / sigma ** 2 : 1) / total;
    const sign = order ? -1 : 1;
    return filtered(grid, axis, reach, reach, (line, out) => {
      for (let i = 0; i < out.length; i++) {
        const middle = i + reach;
        let value = line[middle] * kernel[0];
        for (let j = reach; j > 0; j--)
          value += (line[middle + j] + sign * line[middle - j]) * kernel[j];
        out[i] = value;
      }
    });
  }

  function gaussianFilter(grid, sigma) {
    return gaussianFilter1d(gaussianFilter1d(grid, 0, sigma, 0), 1, sigma, 0);
  }

  function gradientMagnitude(grid, sigma) {
    return lengths(
      [0, 1].map((direction) => {
        const down = gaussianFilter1d(grid, 0, sigma, direction === 0 ? 1 : 0);
        return gaussianFilter1d(down, 1, sigma, direction === 1 ? 1 : 0);
      }),
    );
  }

  /** Means of side * side pixels. */
  function uniformFilter(grid, side) {
    if (side === 1) return grid;
    const before = side >> 1;
    const means = (line, out) => {
      let value = sum(line.subarray(0, side)) / side;
      out[0] = value;
      for (let i = 1; i < out.length; i++)
        out[i] = value += (line[i + side - 1] - line[i - 1]) / side;
    };
    const down = filtered(grid, 0, before, side - 1 - before, means);
    return filtered(down, 1, before, side - 1 - before, means);
  }

  /**
   * The greatest of `size` pixels along an axis, or with the sign -1 the least.
   *
   * A window is the end of a block of that size and the start of the next (van Herk, "A
   * fast algorithm for local minimum and maximum filters on rectangular and octagonal
   * kernels", 1992).
   */
  function maximumFilter1d(grid, axis, size, sign = 1) {
    if (size === 1) return grid;
    // an even window's greater half is before a minimum and behind a maximum
    const before = (sign < 0 ? size : size - 1) >> 1;
    const length = size - 1 + (axis ? grid.width : grid.height);
    const starts = new Float64Array(length); // the greatest of a block up to here
    return filtered(grid, axis, before, size - 1 - before, (line, out) => {
      for (let block = 0; block < length; block += size) {
        const stop = Math.min(block + size, length);
        starts[block] = line[block] *= sign;
        for (let i = block + 1; i < stop; i++) {
          line[i] *= sign;
          starts[i] = line[i] > starts[i - 1] ? line[i] : starts[i - 1];
        }
        // from here on line has the greatest of a block from there on
        for (let i = stop - 2; i >= block; i--)
          if (line[i + 1] > line[i]) line[i] = line[i + 1];
      }
      for (let i = 0; i < out.length; i++) {
        const start = starts[i + size - 1];
        out[i] = sign * (line[i] > start ? line[i] : start);
      }
    });
  }

  function greyOpening(grid, size) {
    for (const sign of [-1, 1])
      for (const axis of [0, 1]) grid = maximumFilter1d(grid, axis, size[axis], sign);
    return grid;
  }

  /** Medians of window * window pixels. */
  function medianFilter(grid, window) {
    const { height, width, values } = grid;
    const places = (length) =>
      Int32Array.from({ length: length + window }, (_, i) =>
        mirrored(i - (window >> 1), length),
      );
    const [rows, columns] = [places(height), places(width)];
    const near = new values.constructor(window * window);
    return mapped(grid, (_, place) => {
      const left = place % width;
      const top = (place - left) / width;
      for (let i = 0; i < window; i++)
        for (let j = 0; j < window; j++)
          near[i * window + j] = values[rows[top + i] * width + columns[left + j]];
      return select(near, near.length >> 1);
    });
  }

  /** Enlarged: a line from each cell's centre to the next. */
  function zoom(cells, height, width) {
    const result = floats(height, width);
    const down = between(height, cells.height);
    const right = between(width, cells.width);
    for (let y = 0; y < height; y++) {
      const upper = cells.values.subarray(down.first[y] * cells.width);
      const lower = cells.values.subarray(down.second[y] * cells.width);
      const v = down.share[y];
      for (let x = 0; x < width; x++) {
        const i = right.first[x];
        const j = right.second[x];
        const u = right.share[x];
        result.values[y * width + x] =
          (1 - v) * ((1 - u) * upper[i] + u * upper[j]) +
          v * ((1 - u) * lower[i] + u * lower[j]);
      }
    }
    return result;
  }

  /** Of each of `length` pixels the two of `count` cells beside it, and their share. */
  function between(length, count) {
    const first = new Int32Array(length);
    const second = new Int32Array(length);
    const share = new Float64Array(length);
    for (let i = 0; i < length; i++) {
      const place = (i + 0.5) * (count / length) - 0.5;
      const clipped = Math.min(Math.max(place, 0), count - 1);
      first[i] = Math.floor(clipped);
      second[i] = Math.min(first[i] + 1, count - 1);
      share[i] = clipped - first[i];
    }
    return { first, second, share };
  }

  /** [labels, count]: connected pieces of a mask, with 4 or 8 neighbours to a pixel. */
  function label(mask, diagonal) {
    const { height, width, values } = mask;
    const labels = new Int32Array(values.length);
    const waiting = new Int32Array(values.length);
    let count = 0;
    for (let start = 0; start < values.length; start++) {
      if (!values[start] || labels[start]) continue;
      labels[start] = ++count;
      waiting[0] = start;
      for (let size = 1; size > 0; ) {
        const place = waiting[--size];
        const x = place % width;
        for (let dy = -1; dy <= 1; dy++)
          for (let dx = -1; dx <= 1; dx++) {
            if (!diagonal && dx && dy) continue;
            if (x + dx < 0 || x + dx >= width) continue;
            const near = place + dy * width + dx;
            // above the first row and below the last is nothing: undefined
            if (!values[near] || labels[near]) continue;
            labels[near] = count;
            waiting[size++] = near;
          }
      }
    }
    return [{ height, width, values: labels }, count];
  }

  /** [top, left, bottom, right] of each label from 0 to count; those two are after. */
  function boxes({ width, values }, count) {
    const result = Array.from({ length: count + 1 }, () => [Infinity, Infinity, 0, 0]);
    for (let i = 0; i < values.length; i++) {
      if (!values[i]) continue;
      const box = result[values[i]];
      const x = i % width;
      const y = (i - x) / width;
      if (y < box[0]) box[0] = y;
      if (x < box[1]) box[1] = x;
      if (y >= box[2]) box[2] = y + 1;
      if (x >= box[3]) box[3] = x + 1;
    }
    return result;
  }

  /** With the pixels above, below, left and right of it. */
  function dilated(mask) {
    const { height, width, values } = mask;
    return mapped(mask, (value, i) => {
      const x = i % width;
      return (
        value ||
        (i >= width && values[i - width]) ||
        (i < (height - 1) * width && values[i + width]) ||
        (x > 0 && values[i - 1]) ||
        (x < width - 1 && values[i + 1])
      );
    });
  }

  /** [row, column] of the mean of all pixels, by their values. */
  function centreOfMass({ width, values }) {
    let [total, down, right] = [0, 0, 0];
    for (let i = 0; i < values.length; i++) {
      const x = i % width;
      total += values[i];
      down += (values[i] * (i - x)) / width;
      right += values[i] * x;
    }
    return [down / total, right / total];
  }

  /**
   * Each pixel's distance to the nearest pixel outside of a mask.
   *
   * First along each column; then in each row, the least of the parabolas that stand on
   * those distances' squares (Felzenszwalb, Huttenlocher, "Distance transforms of
   * sampled functions", 2012).
   */
  function distanceTransform(mask) {
    const { height, width, values } = mask;
    const result = new Float64Array(values.length);
    const far = height + width; // more than any distance
    for (let x = 0; x < width; x++) {
      let distance = far;
      for (let i = x; i < values.length; i += width)
        result[i] = distance = values[i] ? Math.min(distance + 1, far) : 0;
      for (let i = values.length - width + x; i >= 0; i -= width)
        result[i] = distance = Math.min(distance + 1, result[i]);
    }
    const squares = new Float64Array(width);
    const lowest = new Int32Array(width); // the columns of the lowest parabolas
    const starts = new Float64Array(width + 1); // and where each begins to be lowest
    for (let row = 0; row < values.length; row += width) {
      for (let x = 0; x < width; x++) squares[x] = result[row + x] ** 2;
      let last = -1;
      for (let x = 0; x < width; x++) {
        let start = -Infinity;
        for (; last >= 0; last--) {
          const other = lowest[last];
          const rise = squares[x] + x * x - squares[other] - other * other;
          start = rise / (2 * (x - other));
          if (start > starts[last]) break;
          start = -Infinity;
        }
        lowest[++last] = x;
        starts[last] = start;
      }
      starts[last + 1] = Infinity;
      for (let x = 0, k = 0; x < width; x++) {
        while (starts[k + 1] < x) k++;
        result[row + x] = Math.sqrt((x - lowest[k]) ** 2 + squares[lowest[k]]);
      }
    }
    return { height, width, values: result };
  }

  // Resizing, as in Pillow

  /** Bicubic, of float32 values, from a box [top, left, bottom, right] of them. */
  function resize(grid, rows, columns, box = [0, 0, grid.height, grid.width]) {
    const [top, left, bottom, right] = box.map(f32);
    const { height, width } = grid;
    if (rows === height && columns === width && !top && !left) return grid;
    const horizontal = weights(width, left, right, columns);
    const vertical = weights(height, top, bottom, rows);
    const narrow = new Float32Array(height * columns);
    // only the rows that are needed
    const last = vertical[rows - 1];
    for (let y = vertical[0].first; y < last.first + last.kernel.length; y++)
      horizontal.forEach(({ first, kernel }, x) => {
        let value = 0;
        for (let i = 0; i < kernel.length; i++)
          value += grid.values[y * width + first + i] * kernel[i];
        narrow[y * columns + x] = value;
      });
    const result = floats(rows, columns);
    vertical.forEach(({ first, kernel }, y) => {
      for (let x = 0; x < columns; x++) {
        let value = 0;
        for (let i = 0; i < kernel.length; i++)
          value += narrow[(first + i) * columns + x] * kernel[i];
        result.values[y * columns + x] = value;
      }
    });
    return result;
  }

  /** Of each of `count` new pixels between `start` and `stop`: its kernel and where. */
  function weights(length, start, stop, count) {
    const scale = f32(stop - start) / count;
    const widened = Math.max(scale, 1);
    const support = 2 * widened;
    return Array.from({ length: count }, (_, i) => {
      const centre = start + (i + 0.5) * scale;
      const first = Math.max(Math.floor(centre - support + 0.5), 0);
      const stop = Math.min(Math.floor(centre + support + 0.5), length);
      const kernel = new Float64Array(stop - first);
      for (let k = 0; k < kernel.length; k++)
        kernel[k] = bicubic((k + first - centre + 0.5) / widened);
      const total = sum(kernel);
      return { first, kernel: kernel.map((weight) => weight / total) };
    });
  }

  function bicubic(x) {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
  }

  return prepare;
})();
