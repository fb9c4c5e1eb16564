/** ExtractAndExpand of DHKEM (RFC 9180 section 4.1): the KEM's secret from a raw ECDH. */
import { concatBytes, uint16, utf8 } from './bytes.ts';
import { expandLabel, extractLabel } from './hpke.ts';
import { SecretBytes, wipe } from './secret.ts';
import type { TwoStageKdf } from './suite.ts';

const NOTHING = new Uint8Array(0);

/**
 * @param kemId code point of RFC 9180 section 7.1; `kdf` is the one that it names
 * @returns what derives `shared_secret`, Nsecret = Nh bytes, from DH, enc and pkRm; the raw secret
 *   stays the caller's to wipe
 */
export function extractAndExpand(
  kemId: number,
  kdf: TwoStageKdf,
): (secret: SecretBytes, encapsulation: Uint8Array, publicKey: Uint8Array) => SecretBytes {
  const suiteId = concatBytes(utf8('KEM'), uint16(kemId));
  const prkLabel = extractLabel(suiteId, 'eae_prk');
  const secretLabel = expandLabel(suiteId, 'shared_secret', kdf.hashLength);
  return (secret, encapsulation, publicKey) => {
    const key = kdf.extract(NOTHING, [prkLabel, secret.reveal()]);
    try {
      const info = [secretLabel, encapsulation, publicKey];
      return SecretBytes.own(kdf.expand(key, info, kdf.hashLength));
    } finally {
      wipe(key);
    }
  };
}
