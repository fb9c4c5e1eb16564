/** C2SP tlog-proof: an entry's index, its inclusion proof and the checkpoint it leads to, as text. */
import { decodeBase64, encodeBase64 } from '../../crypto/base64.ts';
import { TwofoldError } from '../../errors.ts';
import { parseDecimal, parseSignedCheckpoint } from './checkpoint.ts';
import { HASH_BYTES } from './hashes.ts';

export interface TlogProof {
  readonly index: number;
  /** From the sibling of the leaf to the child of the root. */
  readonly hashes: readonly Uint8Array[];
  /** The whole signed note. */
  readonly checkpoint: string;
  /** Application data that nothing authenticates; null without. */
  readonly extra: Uint8Array | null;
}

const FIRST_LINE = 'c2sp.org/tlog-proof@v1';
/** A tree of 2^53 leaves has paths of 53. */
const MAX_HASHES = 53;

const refuse = (why: string): TwofoldError =>
  new TwofoldError('invalid_value', `This is no C2SP tlog-proof: ${why}.`);

export function formatTlogProof({ index, hashes, checkpoint, extra }: TlogProof): string {
  const lines = [
    FIRST_LINE,
    ...(extra === null ? [] : [`extra ${encodeBase64(extra)}`]),
    `index ${index}`,
    ...hashes.map(encodeBase64),
  ];
  return `${lines.join('\n')}\n\n${checkpoint}`;
}

/**
 * Reads, does not verify: the caller checks the checkpoint's signatures and the inclusion.
 * @throws TwofoldError `invalid_value` or `invalid_base64` for anything that `formatTlogProof` does not write
 */
export function parseTlogProof(text: string): TlogProof {
  const gap = text.indexOf('\n\n');
  const [first, ...others] = text.slice(0, Math.max(0, gap)).split('\n');
  if (first !== FIRST_LINE) throw refuse('it begins otherwise');
  const extra = lineAfter('extra ', others[0]);
  const [indexLine, ...lines] = extra === null ? others : others.slice(1);
  const index = parseDecimal(lineAfter('index ', indexLine) ?? '');
  if (index === null) throw refuse('it has no index');
  if (lines.length > MAX_HASHES) throw refuse('its path is too long');
  const hashes = lines.map((line) => decodeBase64(line, 'A hash of a tlog-proof'));
  if (hashes.some(({ length }) => length !== HASH_BYTES)) throw refuse('a hash is no SHA-256 hash');
  const checkpoint = text.slice(gap + 2);
  parseSignedCheckpoint(checkpoint);
  return {
    index,
    hashes,
    checkpoint,
    extra: extra === null ? null : decodeBase64(extra, 'The extra data of a tlog-proof'),
  };
}

const lineAfter = (prefix: string, line: string | undefined): string | null =>
  line?.startsWith(prefix) === true ? line.slice(prefix.length) : null;
