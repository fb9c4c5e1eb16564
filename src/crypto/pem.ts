/**
 * PEM, in the strict form of RFC 7468 section 3: lines of 64 characters, no text around the blocks,
 * no headers, canonical base64. Read line ends are LF or CRLF, written ones LF.
 */
import { TwofoldError } from '../errors.ts';
import { encodeBase64 } from './base64.ts';
import { MAX_DER_LENGTH } from './der.ts';

const LINE = /.{1,64}/g;
const BLOCK = /^-----BEGIN ([A-Z0-9 ]+)-----\n((?:[A-Za-z0-9+/=]{1,64}\n)*)-----END \1-----\n/;

/** One block with a final line feed. */
export function encodePem(label: string, bytes: Uint8Array): string {
  const lines = encodeBase64(bytes).match(LINE) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}

function refuse(name: string, what: string): never {
  throw new TwofoldError('invalid_value', `${name} is not strict PEM (RFC 7468): ${what}.`);
}

/** The final line end may be missing, as in text that a person pasted. */
function normalise(text: string): string {
  const lines = text.replaceAll('\r\n', '\n');
  return lines.endsWith('\n') ? lines : `${lines}\n`;
}

function decodeBody(lines: string, name: string): Uint8Array {
  const text = lines.replaceAll('\n', '');
  const bytes = Buffer.from(text, 'base64');
  const isCanonical = bytes.toString('base64') === text;
  // All lines but the last are full, so that one byte string has one text.
  if (
    !isCanonical ||
    bytes.length === 0 ||
    (text.match(LINE) ?? []).join('\n') !== lines.trimEnd()
  ) {
    return refuse(name, 'its base64 is not canonical in lines of 64 characters');
  }
  return Uint8Array.from(bytes);
}

/**
 * The content of each block, all of them with this label.
 * @param limit most blocks that are read
 * @throws TwofoldError invalid_value
 */
export function decodePemBlocks(
  label: string,
  text: string,
  name: string,
  limit: number,
): readonly Uint8Array[] {
  if (text.length > limit * 2 * MAX_DER_LENGTH) return refuse(name, 'it is too long');
  const blocks: Uint8Array[] = [];
  let rest = normalise(text);
  while (rest !== '') {
    const [whole, found, lines] = BLOCK.exec(rest) ?? [];
    if (whole === undefined || lines === undefined) return refuse(name, 'a block is malformed');
    if (found !== label) return refuse(name, `a block is not labelled ${label}`);
    if (blocks.length === limit) return refuse(name, `it has more than ${limit} blocks`);
    blocks.push(decodeBody(lines, name));
    rest = rest.slice(whole.length);
  }
  return blocks;
}

/**
 * The content of the one block.
 * @throws TwofoldError invalid_value
 */
export function decodePem(label: string, text: string, name: string): Uint8Array {
  const [block] = decodePemBlocks(label, text, name, 1);
  return block ?? refuse(name, 'it has no block');
}
