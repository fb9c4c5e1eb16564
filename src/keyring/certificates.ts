/**
 * Certificate chains beside versions: what others say of a public key, kept for who reads the key.
 * The text stands apart from the row, which has its SHA-256 under the row's MAC.
 */
import { createHash } from 'node:crypto';

import { equalBytes } from '../crypto/bytes.ts';
import { parseCertificateChain } from '../crypto/certificate-chain.ts';
import type { CertificateChain } from '../crypto/certificate-chain.ts';
import type { Engine } from '../crypto/engine.ts';
import { encodePem } from '../crypto/pem.ts';
import { TwofoldError } from '../errors.ts';
import { versionOf } from './catalog.ts';
import type { KeyCatalog } from './catalog.ts';
import type { Plan } from './changes.ts';
import type { KeyVersion } from './model.ts';
import type { CertificateChainView, KeyView, PutCertificateChain } from './operations.ts';
import type { KeyStore } from './ports.ts';
import { planNothing, planVersionRow } from './row-plans.ts';
import type { RowMac } from './row-mac.ts';
import { selectionOf } from './selection.ts';
import { signaturePublicKey } from './signing.ts';
import { kemPublicKey } from './wrapping.ts';

/** How often row and text are read again when a change came between them. */
const ATTEMPTS = 4;

const hashOf = (pem: string): Uint8Array =>
  Uint8Array.from(createHash('sha256').update(pem).digest());

/** @throws TwofoldError wrong_purpose for symmetric keys, version_not_usable for a destroyed version */
function parsed(engine: Engine, view: KeyView, version: KeyVersion, pem: string): CertificateChain {
  const selected = selectionOf(view.key, version);
  const { suite } = selected;
  switch (suite.kind) {
    case 'signature':
      return parseCertificateChain(suite.encoding, signaturePublicKey(suite, selected), pem);
    case 'kem':
      return parseCertificateChain(suite.encoding, kemPublicKey(engine, suite, selected), pem);
    case 'aead':
    case 'mac':
      throw new TwofoldError('wrong_purpose', 'The key is symmetric and has no public key.');
  }
}

export interface CertificateParts {
  readonly engine: Engine;
  readonly mac: RowMac;
}

/** What is stored is the canonical text of what was read. */
export async function planPutChain(
  { engine, mac }: CertificateParts,
  view: KeyView,
  { version: number, pem }: PutCertificateChain,
): Promise<Plan> {
  const version = versionOf(view, number);
  const { certificates } = parsed(engine, view, version, pem);
  const text = certificates.map(({ der }) => encodePem('CERTIFICATE', der)).join('');
  const certificateChain = hashOf(text);
  const detail = { certificates: certificates.length };
  const standing = version.certificateChain;
  if (standing !== null && equalBytes(standing, certificateChain)) {
    return planNothing(view, detail, version);
  }
  const changed = { ...version, certificateChain, revision: version.revision + 1 };
  const { keyId } = version;
  const write = { kind: 'put-certificate-chain', keyId, version: number, pem: text } as const;
  return planVersionRow(mac, view, { version, changed, detail, writes: [write] });
}

export async function planDeleteChain(mac: RowMac, view: KeyView, number: number): Promise<Plan> {
  const version = versionOf(view, number);
  if (version.certificateChain === null) return planNothing(view, {}, version);
  const changed = { ...version, certificateChain: null, revision: version.revision + 1 };
  const { keyId } = version;
  const write = { kind: 'delete-certificate-chain', keyId, version: number } as const;
  return planVersionRow(mac, view, { version, changed, detail: {}, writes: [write] });
}

/**
 * The chain that the version's row attests. Row and text are read one after the other, so that a
 * change may come between them: only what stays unequal was altered.
 * @throws TwofoldError key_not_found, version_not_found, not_found, integrity_failed
 */
export async function readChain(
  parts: {
    readonly store: Pick<KeyStore, 'certificateChain'>;
    readonly catalog: KeyCatalog;
    readonly engine: Engine;
  },
  named: { readonly namespace: string; readonly key: string; readonly version: number },
): Promise<CertificateChainView> {
  const { store, catalog, engine } = parts;
  let view = await catalog.get(named.namespace, named.key);
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const version = versionOf(view, named.version);
    if (version.certificateChain === null) {
      throw new TwofoldError('not_found', 'The version has no certificate chain.');
    }
    const pem = await store.certificateChain(version.keyId, version.version);
    if (pem !== null && equalBytes(hashOf(pem), version.certificateChain)) {
      return { view, pem, chain: parsed(engine, view, version, pem) };
    }
    view = await catalog.fresh(named.namespace, named.key);
  }
  throw new TwofoldError('integrity_failed', `A chain of key ${view.key.id} was altered.`);
}
