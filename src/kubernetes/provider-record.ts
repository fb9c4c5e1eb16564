/**
 * What is kept of a provider: a label of its key, so that it is under the key's MAC, moves with the
 * key's changes, and is seen by whoever reads the key.
 *
 *     kubernetes/<cluster> = provider=<name> announced=<version> [retired=<version> proof=<SHA-256>]
 *
 * `retired` closes all versions up to it; its proof is the hash of the snapshot in which
 * `verify-rotation` found no value of them (base64url). Both numbers only rise.
 */
import { TwofoldError } from '../errors.ts';

export const PROVIDER_LABEL = 'kubernetes/';

export interface ProviderRecord {
  readonly provider: string;
  readonly announced: number;
  /** 0: none. */
  readonly retired: number;
  /** Of the snapshot that showed it; null where nothing is retired. */
  readonly proof: string | null;
}

const RECORD =
  /^provider=([-_.a-zA-Z0-9]{1,63}) announced=([1-9]\d{0,9})(?: retired=([1-9]\d{0,9}) proof=([-_a-zA-Z0-9]{43}))?$/u;

export const providerLabel = (cluster: string): string => PROVIDER_LABEL + cluster;

export const formatRecord = ({ provider, announced, retired, proof }: ProviderRecord): string =>
  `provider=${provider} announced=${String(announced)}` +
  (proof === null ? '' : ` retired=${String(retired)} proof=${proof}`);

/** @throws TwofoldError invalid_value */
export function parseRecord(text: string): ProviderRecord {
  const [, provider, announced, retired, proof] = RECORD.exec(text) ?? [];
  if (provider === undefined) {
    throw new TwofoldError(
      'invalid_value',
      'The label is not the record of a Kubernetes provider.',
    );
  }
  const record = {
    provider,
    announced: Number(announced),
    retired: Number(retired ?? 0),
    proof: proof ?? null,
  };
  if (record.retired >= record.announced) {
    throw new TwofoldError(
      'invalid_value',
      'Only versions before the announced one can be retired.',
    );
  }
  return record;
}
