/**
 * Wrapped keys on their way to a worker and back, as parts of one input and one result (items.ts): of an
 * item its spec (JSON), generation (u32, big-endian), blob and check value; of a result generation and blob.
 */
import { uint32 } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import { itemsOf, joinParts, splitParts } from './items.ts';
import type { Part } from './items.ts';
import type { HsmKeySpec, ToRewrap, WrappedMaterial } from './port.ts';

export function joinToRewrap(items: readonly ToRewrap[]): Uint8Array {
  return joinParts(
    items.flatMap(({ spec, material: { generation, blob, check } }) => [
      Buffer.from(JSON.stringify(spec), 'utf8'),
      uint32(generation),
      blob,
      check,
    ]),
  );
}

/** In memory of its own. */
export function splitToRewrap(joined: Uint8Array): readonly ToRewrap[] {
  return itemsOf(splitParts(joined), 4).map(([spec, generation, blob, check]) => ({
    spec: JSON.parse(Buffer.from(required(spec)).toString('utf8')) as HsmKeySpec,
    material: materialOf(generation, blob, required(check)),
  }));
}

export function joinRewrapped(wrapped: readonly WrappedMaterial[]): Uint8Array {
  return joinParts(wrapped.flatMap(({ generation, blob }) => [uint32(generation), blob]));
}

/** With the check values of the items, which a key keeps. */
export function splitRewrapped(
  joined: Uint8Array,
  items: readonly ToRewrap[],
): readonly WrappedMaterial[] {
  const results = itemsOf(splitParts(joined), 2);
  if (results.length !== items.length) {
    throw new TwofoldError('internal', undefined, { cause: new Error('results are missing') });
  }
  return items.map(({ material }, index) => {
    const [generation, blob] = results[index] ?? [];
    return materialOf(generation, blob, material.check);
  });
}

const materialOf = (generation: Part, blob: Part, check: Uint8Array): WrappedMaterial => ({
  custody: 'hsm-wrapped',
  generation: Buffer.from(required(generation)).readUInt32BE(0),
  blob: Uint8Array.from(required(blob)),
  check: Uint8Array.from(check),
});

function required(part: Part): Uint8Array {
  if (part === undefined) throw new Error('an item of a call lacks a part');
  return part;
}
