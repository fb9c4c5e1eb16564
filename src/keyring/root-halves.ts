/** The halves of a row that are under another generation of the root, and the row with them moved. */
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import type { ToRewrap, WrappedMaterial } from '../hsm/port.ts';
import { isFailed } from '../settled.ts';
import type { Settled } from '../settled.ts';
import type { Material, SealedHalf } from './model.ts';
import type { ToReseal } from './root.ts';
import type { RootRow } from './root-ports.ts';

/** What of a row is under another generation. */
export interface MovedParts {
  readonly wraps: readonly ToRewrap[];
  readonly seals: readonly ToReseal[];
}

export function partsOf(row: RootRow, generation: number): MovedParts {
  if (row.table === 'log-key') {
    const { id, material } = row.value;
    if (material?.custody !== 'sealed') return { wraps: [], seals: [] };
    const binding = { keyId: id, version: 0, suite: 0, part: 'log' } as const;
    return { wraps: [], seals: others([{ half: material, binding }], generation) };
  }
  if (row.table !== 'version' || !('material' in row.value)) return { wraps: [], seals: [] };
  const { keyId, version, material } = row.value;
  const { classical, pq, psk } = material;
  const suite = findSuiteByNumber(row.value.suite);
  const about = { keyId, version, suite: suite.number };
  const hsm = classical?.hsm;
  const isOther = hsm?.custody === 'hsm-wrapped' && hsm.generation !== generation;
  return {
    wraps: isOther && suite.hsm !== null ? [{ spec: suite.hsm, material: hsm }] : [],
    seals: others(
      [
        ...(pq === null ? [] : [{ half: pq.half, binding: { ...about, part: 'pq' } as const }]),
        ...(psk === null ? [] : [{ half: psk, binding: { ...about, part: 'psk' } as const }]),
      ],
      generation,
    ),
  };
}

const others = (items: readonly ToReseal[], generation: number): readonly ToReseal[] =>
  items.filter(({ half }) => half.generation !== generation);

/** The row with what was moved of it, in the order of `partsOf`. */
export function withParts(
  row: RootRow,
  generation: number,
  wrapped: readonly Settled<WrappedMaterial>[],
  sealed: readonly Settled<SealedHalf>[],
): RootRow {
  const [hsm, halves] = [wrapped.values(), sealed.values()];
  const half = (before: SealedHalf) =>
    before.generation === generation ? before : good(taken(halves));
  if (row.table === 'log-key' && row.value.material?.custody === 'sealed') {
    return { ...row, value: { ...row.value, material: half(row.value.material) } };
  }
  if (row.table !== 'version' || !('material' in row.value)) return row;
  const { classical, pq, psk } = row.value.material;
  const material: Material = {
    classical:
      classical && (wrapped.length === 0 ? classical : { ...classical, hsm: good(taken(hsm)) }),
    pq: pq && { ...pq, half: half(pq.half) },
    psk: psk && half(psk),
  };
  return { ...row, value: { ...row.value, material } };
}

export function taken<T>(results: Iterator<T, undefined>): T {
  const result = results.next();
  if (result.done === true) throw new TwofoldError('internal');
  return result.value;
}

function good<T>(settled: Settled<T>): T {
  if (isFailed(settled)) throw settled;
  return settled;
}
