/**
 * `root-wrap` objects on a token: found by CKA_ID (16 bytes of installation ‖ u32 generation) and
 * label. A PIN holder can plant an object of the same name, so a root is unique or refused, and what it
 * allows is tried before use (root-attacks.ts).
 */
import { TwofoldError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { CKA, CKM, CKO } from './cryptoki.ts';
import type { Cryptoki, Handle } from './cryptoki.ts';
import { uuidBytes, uuidText } from './inputs.ts';
import { findObjects, readAttribute, readFlag } from './objects.ts';
import type { RootOnToken } from './port.ts';
import { attributes, ROOT_LABEL, useName, useTemplate } from './templates.ts';

export const ROOT_ID_BYTES = 20;

/** CKA_ID of a root. */
export function rootId(root: RootOnToken): Buffer {
  const id = Buffer.alloc(ROOT_ID_BYTES);
  uuidBytes(root.installation).copy(id);
  id.writeUInt32BE(root.generation, 16);
  return id;
}

export function listRoots(connection: Connection): RootOnToken[] {
  return connection.run((session, cryptoki) => rootsOn(cryptoki, session).map(({ root }) => root));
}

/** Every root of ours that the session sees, whatever its installation. */
export function rootsOn(
  cryptoki: Cryptoki,
  session: Handle,
): { readonly root: RootOnToken; readonly handle: Handle }[] {
  const template = attributes({ class: CKO.SECRET_KEY, token: true });
  return findObjects(cryptoki, session, template).flatMap((handle) => {
    const label = readAttribute(cryptoki, session, handle, CKA.LABEL)?.toString('utf8') ?? '';
    const id = readAttribute(cryptoki, session, handle, CKA.ID);
    if (!label.startsWith(ROOT_LABEL) || id?.length !== ROOT_ID_BYTES) return [];
    const installation = uuidText(id.subarray(0, 16));
    return [{ root: { installation, generation: id.readUInt32BE(16) }, handle }];
  });
}

/** Whether a database was known to hold the roots of the installation; with `note` it is from now on. */
export function useOfRoots(connection: Connection, installation: string, note: boolean): boolean {
  return connection.run((session, cryptoki) => {
    if (isUseNoted(cryptoki, session, installation)) return true;
    if (!note) return false;
    noteUse(cryptoki, session, installation);
    connection.objects += 1;
    return false;
  });
}

const isUseNoted = (cryptoki: Cryptoki, session: Handle, installation: string): boolean =>
  notesOf(cryptoki, session, installation).length > 0;

function notesOf(cryptoki: Cryptoki, session: Handle, installation: string): Handle[] {
  const template = attributes({ class: CKO.SECRET_KEY, token: true });
  return findObjects(cryptoki, session, [...template, ...useName(uuidBytes(installation))]);
}

/** Idempotent; the session is the user's. */
export function noteUse(cryptoki: Cryptoki, session: Handle, installation: string): void {
  if (isUseNoted(cryptoki, session, installation)) return;
  const mechanism = { mechanism: CKM.AES_KEY_GEN };
  cryptoki.C_GenerateKey(session, mechanism, useTemplate(uuidBytes(installation)));
}

/** Takes the note back where no root of the installation is on the token; the session is the user's. */
export function forgetUse(cryptoki: Cryptoki, session: Handle, installation: string): void {
  const isOf = ({ root }: { readonly root: RootOnToken }) => root.installation === installation;
  if (rootsOn(cryptoki, session).some(isOf)) return;
  for (const handle of notesOf(cryptoki, session, installation))
    cryptoki.C_DestroyObject(session, handle);
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

/** Only the SO can make a key trusted, and only such a key wraps what asks for one. */
export function isTrusted(connection: Connection, root: Handle): boolean {
  return connection.run(
    (session, cryptoki) => readFlag(cryptoki, session, root, CKA.TRUSTED) === true,
  );
}

/** CKM_AES_KEY_WRAP_PAD where the token has it, else the later name of RFC 5649. */
export function wrapMechanism(connection: Connection): number {
  return connection.mechanisms.has(CKM.AES_KEY_WRAP_PAD)
    ? CKM.AES_KEY_WRAP_PAD
    : CKM.AES_KEY_WRAP_KWP;
}
