/** A row of the table of suites as `/v1/suites` shows it, with what this zone makes of it. */
import { HEADER_LENGTH, TAG_LENGTH } from '../crypto/envelope.ts';
import type { Engine, Implementation } from '../crypto/engine.ts';
import { findSuite } from '../crypto/suites.ts';
import { purposesOf } from '../crypto/suite.ts';
import type { Suite } from '../crypto/suite.ts';
import type { SuiteTimes } from '../telemetry/suite-times.ts';
import type { TokenFacts } from './dependencies.ts';

/** Where a half stands in the words of the API. */
export const halfName = (half: 'pq' | 'classical'): 'post-quantum' | 'classical' =>
  half === 'pq' ? 'post-quantum' : 'classical';

/** Bytes of an envelope beyond its plaintext; null for what wraps nothing. */
function overheadOf(suite: Suite): number | null {
  if (suite.kind === 'kem') return HEADER_LENGTH + suite.kem.lengths.encapsulation + TAG_LENGTH;
  if (suite.kind === 'aead') return HEADER_LENGTH + 1 + suite.aead.nonceLength + TAG_LENGTH;
  return null;
}

/** Of all halves; null when one of them has no length of its own, and for symmetric keys. */
function privateKeyOf({ parts }: Suite): number | null {
  const lengths = parts.flatMap(({ privateKeyLength: length }) =>
    length === null ? [] : [length],
  );
  if (parts.length === 0 || lengths.length < parts.length) return null;
  return lengths.reduce((sum, length) => sum + length, 0);
}

function sizesOf(suite: Suite) {
  const lengths =
    suite.kind === 'kem'
      ? suite.kem.lengths
      : suite.kind === 'signature'
        ? suite.signer.lengths
        : null;
  return {
    publicKey: lengths?.publicKey ?? null,
    privateKey: privateKeyOf(suite),
    seed: suite.parts.find(({ seedLength }) => seedLength !== null)?.seedLength ?? null,
    ciphertextOverhead: overheadOf(suite),
    encapsulation: suite.kind === 'kem' ? suite.kem.lengths.encapsulation : null,
    signatureMax: suite.kind === 'signature' ? suite.signer.lengths.signatureMax : null,
    mac: suite.kind === 'mac' ? suite.mac.macLength : null,
  };
}

/** Who computes a suite's post-quantum half; `token` where it has none. */
export function engineOf(
  engine: Pick<Engine, 'implementationOf'>,
  id: string,
): Implementation | 'token' | null {
  const { pq } = findSuite(id);
  return pq === null ? 'token' : engine.implementationOf(pq);
}

/** Node signs no external mu, so that it may be another engine than the suite's. */
function muEngineOf(suite: Suite, engine: Pick<Engine, 'implementationOfMu'>) {
  const takesMu = suite.kind === 'signature' && suite.signer.takes.mu && suite.pq !== null;
  return takesMu ? engine.implementationOfMu(suite.pq) : null;
}

/** A form that the encoding has not and gives no reason for does not apply to such keys. */
const NOT_DEFINED = 'No standard defines one for this suite.';

function encodingOf(suite: Suite) {
  if (suite.kind === 'aead' || suite.kind === 'mac') {
    const reason = 'The key is symmetric and has no public form.';
    return { oid: null, oidMissing: reason, joseAlg: null, joseAlgMissing: reason };
  }
  const { spki, jwk, signature, unavailable } = suite.encoding;
  const oid = spki?.oid ?? null;
  const joseAlg = (suite.kind === 'signature' ? signature?.jose : jwk?.alg) ?? null;
  return {
    oid,
    oidMissing: oid === null ? (unavailable.spki ?? NOT_DEFINED) : null,
    joseAlg,
    joseAlgMissing: joseAlg === null ? (unavailable.jose ?? unavailable.jwk ?? NOT_DEFINED) : null,
  };
}

export function suiteResource(
  suite: Suite,
  token: TokenFacts,
  engine: Pick<Engine, 'implementationOf' | 'implementationOfMu'>,
  times: SuiteTimes,
) {
  const { available, reason } = token.availability(suite);
  const notAdmitted = token.refusal(suite);
  return {
    id: suite.id,
    number: suite.number,
    purposes: [...purposesOf(suite)],
    status: suite.status,
    standard: suite.standard,
    strength: suite.strength,
    standings: [...suite.standings],
    parts: suite.parts.map(({ half, ...part }) => ({ half: halfName(half), ...part })),
    digest: suite.kind === 'signature' ? suite.signer.prehash : null,
    takes: suite.kind === 'signature' ? suite.signer.takes : null,
    sizes: sizesOf(suite),
    encoding: encodingOf(suite),
    custody: {
      postQuantum: suite.pq === null ? null : ('sealed' as const),
      classical: token.custodyOf(suite),
    },
    engine: suite.pq === null ? null : engine.implementationOf(suite.pq),
    muEngine: muEngineOf(suite, engine),
    available,
    unavailableReason: reason,
    admitted: notAdmitted === null,
    notAdmittedReason: notAdmitted,
    times: [...times.of(suite.id)],
  };
}
