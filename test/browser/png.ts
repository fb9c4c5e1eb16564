/** Makes a browser's picture small: at most 256 colours, those that are rare as their nearest. */
import { crc32, deflateSync, inflateSync } from 'node:zlib';

interface Picture {
  readonly width: number;
  readonly height: number;
  /** 0xRRGGBB, row by row. */
  readonly pixels: Uint32Array;
}

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');

function* chunksOf(png: Buffer): Generator<readonly [type: string, data: Buffer]> {
  for (let at = SIGNATURE.length; at < png.length;) {
    const length = png.readUInt32BE(at);
    yield [png.toString('latin1', at + 4, at + 8), png.subarray(at + 8, at + 8 + length)];
    at += length + 12;
  }
}

// Globals are slow to reach under jest, and these run for every byte.
const { abs } = Math;

/** The predictor of filter type 4, PNG (ISO/IEC 15948) section 9.4. */
function paeth(left: number, up: number, corner: number): number {
  const estimate = left + up - corner;
  const [toLeft, toUp, toCorner] = [estimate - left, estimate - up, estimate - corner];
  if (abs(toLeft) <= abs(toUp) && abs(toLeft) <= abs(toCorner)) return left;
  return abs(toUp) <= abs(toCorner) ? up : corner;
}

function guess(filter: number, left: number, up: number, corner: number): number {
  if (filter === 0) return 0;
  if (filter === 1) return left;
  if (filter === 2) return up;
  return filter === 3 ? (left + up) >> 1 : paeth(left, up, corner);
}

function unfilter(raw: Buffer, stride: number, size: number): Buffer {
  const rows = raw.length / (stride + 1);
  const bytes = Buffer.alloc(rows * stride);
  for (let row = 0; row < rows; row += 1) {
    const from = row * (stride + 1);
    const filter = raw[from] ?? 0;
    for (let x = 0; x < stride; x += 1) {
      const at = row * stride + x;
      const left = x < size ? 0 : (bytes[at - size] ?? 0);
      const up = row === 0 ? 0 : (bytes[at - stride] ?? 0);
      const corner = x < size || row === 0 ? 0 : (bytes[at - stride - size] ?? 0);
      bytes[at] = (raw[from + 1 + x] ?? 0) + guess(filter, left, up, corner);
    }
  }
  return bytes;
}

/** Of 8 bits a channel and not interlaced, as browsers write it. */
export function decodePng(png: Buffer): Picture {
  const chunks = [...chunksOf(png)];
  const header = chunks[0]?.[1] ?? Buffer.alloc(13);
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const size = { 2: 3, 6: 4 }[header[9] ?? 0];
  if (size === undefined || header[8] !== 8 || header[12] !== 0) throw new Error('another PNG');
  const data = chunks.filter(([type]) => type === 'IDAT').map(([, part]) => part);
  const bytes = unfilter(inflateSync(Buffer.concat(data)), width * size, size);
  const pixels = new Uint32Array(width * height);
  for (let n = 0, at = 0; n < pixels.length; n += 1, at += size) {
    pixels[n] = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
  }
  return { width, height, pixels };
}

function distance(a: number, b: number): number {
  const red = (a >> 16) - (b >> 16);
  const green = ((a >> 8) & 255) - ((b >> 8) & 255);
  const blue = (a & 255) - (b & 255);
  return red * red + green * green + blue * blue;
}

function nearest(palette: readonly number[], colour: number): number {
  let found = 0;
  let least = Number.MAX_SAFE_INTEGER;
  palette.forEach((each, index) => {
    const away = distance(each, colour);
    if (away < least) [found, least] = [index, away];
  });
  return found;
}

function indexed(pixels: Uint32Array): { palette: readonly number[]; indices: Buffer } {
  const counts = new Map<number, number>();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  const ranked = [...counts].toSorted(([, a], [, b]) => b - a).map(([colour]) => colour);
  const palette = ranked.slice(0, 256);
  const places = new Map(ranked.map((colour) => [colour, nearest(palette, colour)]));
  return { palette, indices: Buffer.from(pixels.map((pixel) => places.get(pixel) ?? 0)) };
}

function chunk(type: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

export function encodePng({ width, height, pixels }: Picture): Buffer {
  const { palette, indices } = indexed(pixels);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3], 8);
  const colours = Buffer.alloc(palette.length * 3);
  palette.forEach((colour, n) => colours.writeUIntBE(colour, n * 3, 3));
  const rows = Array.from({ length: height }, (_, row) => [
    Buffer.of(0),
    indices.subarray(row * width, (row + 1) * width),
  ]);
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    chunk('PLTE', colours),
    chunk('IDAT', deflateSync(Buffer.concat(rows.flat()), { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}
