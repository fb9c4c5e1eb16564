/**
 * `root-wrap` objects on a token: found by CKA_ID (16 bytes of installation ‖ u32 generation) and
 * label, and examined before use. A PIN holder can plant an object of the same name, so a root is
 * unique or refused, and what it allows is tried, not believed.
 */
import { TwofoldError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { CKA, CKM, CKO } from './cryptoki.ts';
import type { Handle } from './cryptoki.ts';
import { uuidBytes, uuidText } from './inputs.ts';
import { findObjects, readAttribute, readFlag } from './objects.ts';
import type { HsmKeySpec, RootOnToken } from './port.ts';
import type { RootReport } from './protocol.ts';
import { attributes, privateTemplate, publicTemplate, ROOT_LABEL } from './templates.ts';

export const ROOT_ID_BYTES = 20;

/** CKA_ID of a root. */
export function rootId(root: RootOnToken): Buffer {
  const id = Buffer.alloc(ROOT_ID_BYTES);
  uuidBytes(root.installation).copy(id);
  id.writeUInt32BE(root.generation, 16);
  return id;
}

export function listRoots(connection: Connection): RootOnToken[] {
  return connection.run((session, cryptoki) =>
    findObjects(cryptoki, session, attributes({ class: CKO.SECRET_KEY, token: true })).flatMap(
      (object) => {
        const label = readAttribute(cryptoki, session, object, CKA.LABEL)?.toString('utf8') ?? '';
        const id = readAttribute(cryptoki, session, object, CKA.ID);
        if (!label.startsWith(ROOT_LABEL) || id?.length !== ROOT_ID_BYTES) return [];
        return [{ installation: uuidText(id.subarray(0, 16)), generation: id.readUInt32BE(16) }];
      },
    ),
  );
}

/** The root's handle; `zone_lacks_material` when absent, `integrity_failed` when there are two. */
export function findRoot(connection: Connection, root: RootOnToken): Handle {
  const found = connection.run((session, cryptoki) =>
    findObjects(
      cryptoki,
      session,
      attributes({ class: CKO.SECRET_KEY, token: true, id: rootId(root) }),
    ),
  );
  const [handle] = found;
  if (handle === undefined) {
    throw new TwofoldError(
      'zone_lacks_material',
      `root generation ${root.generation} is not on the token`,
    );
  }
  if (found.length > 1) {
    throw new TwofoldError('integrity_failed', 'two objects claim to be the same root');
  }
  return handle;
}

/** CKM_AES_KEY_WRAP_PAD where the token has it, else the later name of RFC 5649. */
export function wrapMechanism(connection: Connection): number {
  return connection.mechanisms.has(CKM.AES_KEY_WRAP_PAD)
    ? CKM.AES_KEY_WRAP_PAD
    : CKM.AES_KEY_WRAP_KWP;
}

const WITNESS: HsmKeySpec = { kind: 'ec', curve: 'P-256', use: 'derive' };

/**
 * Tries what a PIN holder would: each attempt that the token allows is a finding, and one finding
 * makes the custody `extractableByPinHolder`. Attempts use a key made for the purpose.
 */
export function inspectRoot(connection: Connection, root: Handle): RootReport {
  const findings = [...readFindings(connection, root), ...tryExtraction(connection, root)];
  return {
    custody: findings.length === 0 ? 'non-extractable' : 'extractableByPinHolder',
    findings,
  };
}

function readFindings(connection: Connection, root: Handle): string[] {
  const wanted: readonly (readonly [string, number, boolean])[] = [
    ['CKA_TRUSTED', CKA.TRUSTED, true],
    ['CKA_SENSITIVE', CKA.SENSITIVE, true],
    ['CKA_WRAP_WITH_TRUSTED', CKA.WRAP_WITH_TRUSTED, true],
    ['CKA_ENCRYPT', CKA.ENCRYPT, false],
    ['CKA_DECRYPT', CKA.DECRYPT, false],
    ['CKA_MODIFIABLE', CKA.MODIFIABLE, false],
  ];
  return connection.run((session, cryptoki) =>
    wanted
      .filter(([, type, value]) => readFlag(cryptoki, session, root, type) !== value)
      .map(([name, , value]) => `${name} is not ${String(value)}`),
  );
}

function tryExtraction(connection: Connection, root: Handle): string[] {
  const blob = wrapWitness(connection, root);
  const asSecret = attributes({
    class: CKO.SECRET_KEY,
    keyType: 0x10,
    token: false,
    private: true,
    sensitive: false,
    extractable: true,
  });
  const template = privateTemplate(WITNESS, { kind: 'unwrapped' });
  const without = (type: number) => template.filter((attribute) => attribute.type !== type);
  const changed = (type: number, value: boolean) => [...without(type), { type, value }];
  const attempts: readonly (readonly [string, typeof template])[] = [
    ['a private key unwraps as a readable secret', asSecret],
    ['a private key unwraps readable', changed(CKA.SENSITIVE, false)],
    ['a private key unwraps for any wrapping key', changed(CKA.WRAP_WITH_TRUSTED, false)],
  ];
  return [
    ...attempts.filter(([, attempt]) => unwraps(connection, root, blob, attempt)),
    ...(wrapsItself(connection, root) ? [['the root wraps itself', []] as const] : []),
  ].map(([finding]) => finding);
}

function wrapWitness(connection: Connection, root: Handle): Buffer {
  return connection.run((session, cryptoki) => {
    const pair = cryptoki.C_GenerateKeyPair(
      session,
      { mechanism: CKM.EC_KEY_PAIR_GEN },
      publicTemplate(WITNESS),
      privateTemplate(WITNESS, { kind: 'to-be-wrapped' }),
    );
    connection.objects += 2;
    try {
      const mechanism = { mechanism: wrapMechanism(connection) };
      return cryptoki.C_WrapKey(session, mechanism, root, pair.privateKey, Buffer.alloc(1024));
    } finally {
      connection.destroy(pair.publicKey);
      connection.destroy(pair.privateKey);
    }
  });
}

function unwraps(
  connection: Connection,
  root: Handle,
  blob: Buffer,
  template: ReturnType<typeof attributes>,
): boolean {
  return allowed(connection, () =>
    connection.run((session, cryptoki) => {
      const mechanism = { mechanism: wrapMechanism(connection) };
      connection.destroy(cryptoki.C_UnwrapKey(session, mechanism, root, blob, template));
    }),
  );
}

function wrapsItself(connection: Connection, root: Handle): boolean {
  return allowed(connection, () =>
    connection.run((session, cryptoki) => {
      const mechanism = { mechanism: wrapMechanism(connection) };
      cryptoki.C_WrapKey(session, mechanism, root, root, Buffer.alloc(1024)).fill(0);
    }),
  );
}

/** A lost session is no refusal and must not pass for one. */
function allowed(connection: Connection, attempt: () => void): boolean {
  try {
    attempt();
    return true;
  } catch {
    connection.run((session, cryptoki) => cryptoki.C_GetSessionInfo(session));
    return false;
  }
}
