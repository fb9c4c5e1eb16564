/** Signatures in the forms that others exchange: JSON Web Signatures and certification requests. */
import { assembleRequest, requestInfo, requestPem } from '../crypto/csr.ts';
import type { RequestContent } from '../crypto/csr.ts';
import { flattenedJws, parseCompactJws, prepareJws, readKid } from '../crypto/jws.ts';
import type { KeyEncoding, SignatureForm } from '../crypto/key-encoding.ts';
import { TwofoldError } from '../errors.ts';
import type { KeyCatalog } from './catalog.ts';
import type { KeyUse } from './operations.ts';
import { requirePurpose, selectTelling, toVerify } from './selection.ts';
import type { Selected } from './selection.ts';
import { requireSignature, signaturePublicKey } from './signing.ts';
import type { Sign } from './signing.ts';

type ExchangeOperations = Pick<KeyUse, 'signJws' | 'verifyJws' | 'requestCertificate'>;

const NO_CONTEXT = new Uint8Array(0);
const OWN_KID =
  /^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.([1-9][0-9]{0,9})$/;

/** `kid` of a version: unique over all keys and versions. */
export const kidOf = (keyId: string, version: number): string => `${keyId}.${String(version)}`;

/** What is made of the selected version before the signature, kept for after it. */
interface Prepared<T> {
  readonly form: SignatureForm;
  readonly encoding: KeyEncoding;
  readonly unsigned: T;
}

/** @throws TwofoldError invalid_value with the reason that the suite's encoding gives */
function prepared<T>(
  selected: Selected,
  part: 'jose' | 'x509',
  make: (encoding: KeyEncoding) => T | null,
): Prepared<T> {
  const { encoding } = requireSignature(selected.suite);
  const unsigned = make(encoding);
  if (unsigned === null || encoding.signature === null) {
    throw new TwofoldError('invalid_value', encoding.unavailable[part]);
  }
  return { form: encoding.signature, encoding, unsigned };
}

/**
 * The version that a `kid` of ours names; undefined for another's.
 * @throws TwofoldError key_mismatch
 */
function versionOfKid(kid: string | null, keyId: string): number | undefined {
  const [, id, version] = OWN_KID.exec(kid ?? '') ?? [];
  if (id === undefined) return undefined;
  if (id !== keyId) throw new TwofoldError('key_mismatch', 'The kid of the JWS is another key’s.');
  return Number(version);
}

export function exchangeOperations(
  catalog: KeyCatalog,
  { sign, verify }: { readonly sign: Sign; readonly verify: KeyUse['verify'] },
  now: () => number,
): ExchangeOperations {
  return {
    async signJws(grant, { payload, ...request }) {
      let made: Prepared<NonNullable<ReturnType<typeof prepareJws>>> | undefined;
      const compose = (selected: Selected): Uint8Array => {
        const kid = kidOf(selected.keyId, selected.version);
        made = prepared(selected, 'jose', (encoding) => prepareJws(encoding, { kid }, payload));
        return made.unsigned.signingInput;
      };
      const { used, signature } = await sign(grant, {
        ...request,
        compose,
        signatureContext: NO_CONTEXT,
      });
      if (made === undefined) throw new TwofoldError('internal');
      return { used, jws: flattenedJws(made.form, made.unsigned, signature) };
    },

    async verifyJws(grant, { jws, keyVersion, ...selecting }) {
      const view = await catalog.get(grant.namespace, grant.key ?? '');
      requirePurpose(view, 'sign');
      const selected = selectTelling(view, selecting, () => {
        const named = versionOfKid(readKid(jws), view.key.id);
        if (named !== undefined && keyVersion !== undefined && named !== keyVersion) {
          throw new TwofoldError('invalid_value', 'The kid of the JWS names another version.');
        }
        return toVerify(view, named ?? keyVersion, now());
      });
      const { encoding } = requireSignature(selected.suite);
      const { signingInput, signature } = parseCompactJws(encoding, jws);
      if (signature === null) return { used: selected.used, valid: false };
      return verify(grant, {
        ...selecting,
        message: signingInput,
        signatureContext: NO_CONTEXT,
        signature,
        keyVersion: selected.version,
      });
    },

    async requestCertificate(grant, { content, ...request }) {
      let made: Prepared<Uint8Array> | undefined;
      const compose = (selected: Selected): Uint8Array => {
        made = requestFor(selected, content);
        return made.unsigned;
      };
      const { used, signature } = await sign(grant, {
        ...request,
        compose,
        signatureContext: NO_CONTEXT,
      });
      const der =
        made === undefined ? null : assembleRequest(made.encoding, made.unsigned, signature);
      if (der === null) throw new TwofoldError('internal');
      return { used, pem: requestPem(der) };
    },
  };
}

function requestFor(selected: Selected, content: RequestContent): Prepared<Uint8Array> {
  const publicKey = signaturePublicKey(requireSignature(selected.suite), selected);
  return prepared(selected, 'x509', (encoding) => requestInfo(encoding, publicKey, content));
}
