/**
 * Export of keys (docs/export.md): the seed of a post-quantum key, sealed to a recipient's hybrid key. What the HSM
 * holds does not leave: a wrapping key that the service's PIN can make would do for whoever has the PIN too, and the
 * root lets what it unwraps be wrapped by trusted keys alone (promise P1).
 */
import { isHybridKem } from '../crypto/suite.ts';
import type { Suite } from '../crypto/suite.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { recipientFingerprint, sealExport } from '../crypto/export-envelope.ts';
import type { ExportBinding, ExportRecipient } from '../crypto/export-envelope.ts';
import type { Engine } from '../crypto/engine.ts';
import { wipe } from '../crypto/secret.ts';
import type { Grant } from '../access/grant.ts';
import { TwofoldError } from '../errors.ts';
import { versionOf } from './catalog.ts';
import { plainPlan } from './changes.ts';
import type { Plan } from './changes.ts';
import type { KeyExport, KeyVersion, SealedHalf } from './model.ts';
import type { ChangeRun, ExportKey, KeyView } from './operations.ts';
import type { Root } from './root.ts';
import { attestKey } from './row-mac.ts';
import type { RowMac } from './row-mac.ts';
import { usedOf } from './selection.ts';

/** They are shown for ever, and read with every use of the key. */
const MAX_EXPORTS = 64;

export interface ExportParts {
  readonly engine: Engine;
  readonly root: Pick<Root, 'unseal'>;
  readonly mac: RowMac;
  readonly clock: () => Date;
}

/**
 * @throws TwofoldError export_not_offered with the reason
 */
export function requireExportable(suite: Suite): void {
  const hasFormat = 'encoding' in suite && suite.encoding.privateKey !== null;
  if (suite.hsm === null && hasFormat) return;
  throw new TwofoldError(
    'export_not_offered',
    suite.hsm === null
      ? 'The format of its private keys is not final.'
      : suite.pq === null
        ? 'Its private key lives in the HSM, and no wrapping that the service can make would keep it from the holder of the PIN.'
        : 'The suite is a hybrid: one of its halves lives in the HSM and does not leave, and neither serves alone.',
  );
}

/** What a recipient is shown as, hexadecimal. */
export const fingerprintText = (recipient: ExportRecipient): string =>
  Buffer.from(recipientFingerprint(recipient)).toString('hex');

/** @throws TwofoldError invalid_value */
export function recipientOf(suite: Suite, publicKey: Uint8Array): ExportRecipient {
  if (isHybridKem(suite)) return { suite, publicKey };
  throw new TwofoldError('invalid_value', 'The suite of a recipient is a hybrid KEM.');
}

const USABLE: readonly KeyVersion['state'][] = ['active', 'deactivated'];

/** @throws TwofoldError as `KeyManage.export` */
export async function planExport(
  parts: ExportParts,
  grant: Grant<'keys.export'>,
  view: KeyView,
  { input, run }: { readonly input: ExportKey; readonly run: ChangeRun },
): Promise<Plan> {
  const { key } = view;
  if (!key.exportable) throw new TwofoldError('key_not_exportable');
  const version = versionOf(view, input.version);
  const suite = findSuiteByNumber(version.suite);
  requireExportable(suite);
  if (key.suspension !== null || key.destruction !== null || !USABLE.includes(version.state)) {
    throw new TwofoldError(
      'version_not_usable',
      'Only a version in use, or after it, is exported.',
    );
  }
  const pq = 'material' in version ? version.material.pq : null;
  if (pq === null) throw new TwofoldError('internal');
  const approval = approvalOf(run);
  if (key.exports.length >= MAX_EXPORTS) {
    throw new TwofoldError('quota_exceeded', `A key has at most ${String(MAX_EXPORTS)} exports.`);
  }
  const { recipient } = input;
  const { id: keyId, namespace } = key;
  const binding = { keyId, version: version.version, suite, namespace, publicKey: pq.public };
  // Also of a dry run, so that an approval is not asked for what cannot be done.
  const { kem } = recipient.suite;
  kem.joinPublicKey(parts.engine, kem.splitPublicKey(recipient.publicKey));
  const envelope = run.dryRun ? null : await sealed(parts, recipient, binding, pq.half);
  const record: KeyExport = {
    version: version.version,
    at: parts.clock(),
    suite: recipient.suite.number,
    recipient: recipientFingerprint(recipient),
    by: { issuer: grant.principal.issuer, subject: grant.principal.subject },
    approval: approval ?? '',
  };
  const exports = run.dryRun ? key.exports : [...key.exports, record];
  const changed = { ...key, exports, revision: key.revision + 1 };
  const detail = {
    recipientSuite: recipient.suite.id,
    recipient: fingerprintText(recipient),
  };
  return plainPlan(
    {
      before: view,
      after: { key: changed, versions: view.versions },
      used: usedOf(changed, version),
      detail,
      changes: true,
      exported: { binding, recipient, envelope },
    },
    [{ kind: 'update-key', row: await attestKey(parts.mac, changed), expected: key.revision }],
  );
}

/**
 * The approval that the export stands on; null in a dry run.
 * @throws TwofoldError approval_rule_missing where nobody had to be asked
 */
function approvalOf({ dryRun, because }: ChangeRun): string | null {
  const approval = because?.['approval'];
  if (typeof approval === 'string') return approval;
  if (dryRun) return null;
  throw new TwofoldError(
    'approval_rule_missing',
    'An export is approved by others always: make a rule that guards keys.export.',
  );
}

async function sealed(
  { engine, root }: ExportParts,
  recipient: ExportRecipient,
  binding: ExportBinding,
  half: SealedHalf,
): Promise<Uint8Array> {
  const { keyId, version, suite } = binding;
  const seed = await root.unseal(half, { keyId, version, suite: suite.number, part: 'pq' });
  try {
    return await sealExport(engine, recipient, binding, seed);
  } finally {
    wipe(seed);
  }
}
