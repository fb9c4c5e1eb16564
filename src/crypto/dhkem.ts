/** ExtractAndExpand of DHKEM (RFC 9180 section 4.1): the KEM's secret from a raw ECDH. */
import { concatBytes, uint16, utf8 } from './bytes.ts';
import { labeledExpand, labeledExtract } from './hpke.ts';
import { SecretBytes, wipe } from './secret.ts';
import type { TwoStageKdf } from './suite.ts';

const PRK_LABEL = utf8('eae_prk');
const SECRET_LABEL = utf8('shared_secret');
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
  return (secret, encapsulation, publicKey) => {
    const key = labeledExtract(kdf, suiteId, NOTHING, PRK_LABEL, secret.reveal());
    try {
      const context = [encapsulation, publicKey];
      return SecretBytes.own(
        labeledExpand(kdf, suiteId, key, SECRET_LABEL, context, kdf.hashLength),
      );
    } finally {
      wipe(key);
    }
  };
}
