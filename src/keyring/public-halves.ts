/** The public halves of a version as its suite has them. */
import type { KemSuite, PublicHalves, SignatureSuite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';
import type { Material } from './model.ts';

const NOTHING = new Uint8Array(0);

/** @throws TwofoldError integrity_failed when the version has not just the halves of its suite */
export function publicHalvesOf(
  suite: KemSuite | SignatureSuite,
  { pq, classical }: Material,
): PublicHalves {
  const point = classical?.public ?? null;
  const fits = (suite.pq === null) === (pq === null) && (suite.hsm === null) === (point === null);
  if (!fits) {
    throw new TwofoldError('integrity_failed', 'The version has not the halves of its suite.');
  }
  return { pq: pq?.public ?? NOTHING, classical: point ?? NOTHING };
}
