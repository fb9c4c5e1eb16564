/**
 * What a conformance run makes on a token for longer than a session: token objects whose label names
 * the run, so that a later run knows what an interrupted one left, and whether that one is over.
 */
import { createHash, randomUUID } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { NAME } from '../name.ts';
import type { Connection } from './connection.ts';
import { CKA, CKM } from './cryptoki.ts';
import type { Handle } from './cryptoki.ts';
import { findObjects, readAttribute } from './objects.ts';
import type { RootOnToken } from './port.ts';
import { rootId } from './roots.ts';
import { attributes, plainRootTemplate } from './templates.ts';

/** Every token object of a run has a label that begins with this. */
export const RUN_LABEL = `${NAME.tokenLabel}-conformance-`;

const RUN_NAME = /^[0-9a-f]{8}$/u;

/** Each token object by what identifies it, as a digest: nothing of the token's content is kept. */
export type Inventory = readonly string[];

/** The name of a run, as it stands in its labels. */
export function newRunName(): string {
  return randomUUID().slice(0, 8);
}

export const rootLabelOf = (run: string): string => `${RUN_LABEL}${run}-root`;
export const keyLabelOf = (run: string): string => `${RUN_LABEL}${run}-key`;

/** Every token object that the session sees, sorted, so that two inventories can be compared. */
export function inventory(connection: Connection): Inventory {
  return connection.run((session, cryptoki) =>
    findObjects(cryptoki, session, attributes({ token: true }))
      .map((object) => {
        const digest = createHash('sha256');
        for (const type of [CKA.CLASS, CKA.LABEL, CKA.ID]) {
          const value = readAttribute(cryptoki, session, object, type) ?? Buffer.alloc(0);
          digest.update(`${type}:${value.length}:`).update(value);
        }
        return digest.digest('hex').slice(0, 16);
      })
      .sort(),
  );
}

/** Destroys the objects of `run` and of every run that is over, and answers how many there were. */
export async function removeLeftovers(connection: Connection, run: string): Promise<number> {
  let removed = 0;
  for (const { handle, name } of runObjects(connection)) {
    if (name !== run && (await isUnderWay(name))) continue;
    connection.run((session, cryptoki) => cryptoki.C_DestroyObject(session, handle));
    removed += 1;
  }
  return removed;
}

/** A wrapping key for a token that has no root yet: a token object, which the port finds by its id. */
export function makeTemporaryRoot(connection: Connection, run: string): RootOnToken {
  const root = { installation: randomUUID(), generation: 1 };
  connection.run((session, cryptoki) =>
    cryptoki.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, [
      ...plainRootTemplate(),
      { type: CKA.LABEL, value: rootLabelOf(run) },
      { type: CKA.ID, value: rootId(root) },
    ]),
  );
  return root;
}

/**
 * Marks a run as under way on this machine until the answer is called or the process ends: the name
 * of an abstract socket, which nothing can leave behind.
 */
export async function holdRunName(run: string): Promise<() => void> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketOf(run), resolve);
  });
  server.unref();
  return () => server.close();
}

function isUnderWay(run: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketOf(run));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

const socketOf = (run: string): string => `\0${RUN_LABEL}${run}`;

function runObjects(connection: Connection): { readonly handle: Handle; readonly name: string }[] {
  return connection.run((session, cryptoki) =>
    findObjects(cryptoki, session, attributes({ token: true })).flatMap((handle) => {
      const label = readAttribute(cryptoki, session, handle, CKA.LABEL)?.toString('utf8') ?? '';
      const name = label.slice(RUN_LABEL.length, RUN_LABEL.length + 8);
      const ours = label.startsWith(RUN_LABEL) && RUN_NAME.test(name);
      return ours && (label === rootLabelOf(name) || label === keyLabelOf(name))
        ? [{ handle, name }]
        : [];
    }),
  );
}
