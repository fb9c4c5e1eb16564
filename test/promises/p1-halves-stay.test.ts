/**
 * P1: someone with the user PIN and the whole database gets no classical private key in the clear by
 * any PKCS#11 call, nor a post-quantum half out of the database. Tried on the token and the rows of a
 * real service.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { findSoftHsm } from '../../src/config.ts';
import { Connection } from '../../src/hsm/connection.ts';
import { CKA, CKK, CKM, CKO } from '../../src/hsm/cryptoki.ts';
import type { Attribute, Handle } from '../../src/hsm/cryptoki.ts';
import { exportSofthsmConf, loadAlone } from '../../src/hsm/module.ts';
import { findObjects, readAttribute, readClass } from '../../src/hsm/objects.ts';
import { readPin } from '../../src/hsm/pin.ts';
import { findRoot, listRoots, wrapMechanism } from '../../src/hsm/roots.ts';
import { attributes } from '../../src/hsm/templates.ts';
import { NAME } from '../../src/name.ts';
import { withDatabaseOf } from '../e2e/inspection.ts';
import { TestService } from '../e2e/service.ts';

const SUITES = [
  'MLKEM768-P256',
  'MLKEM1024-P384',
  'MLKEM768-X25519',
  'MLDSA65-ECDSA-P256-SHA512',
  'A256GCM',
  'HS256',
];

let service: TestService;
/** Everything that the database holds of classical halves and of the service's own keys. */
let blobs: readonly Buffer[];

beforeAll(async () => {
  service = await TestService.start();
  for (const [index, suite] of SUITES.entries()) {
    const body = { name: `key-${index}`, suite };
    expect((await service.request('POST', '/v1/admin/keys', body)).status).toBe(201);
  }
  const { rows } = await withDatabaseOf(service.dataDir, (client) =>
    client.query<{ blob: Buffer }>(
      `select classical_blob as blob from public.key_version where classical_blob is not null
        union all select seal_blob from public.root_generation
        union all select mac_blob from public.root_generation`,
    ),
  );
  blobs = rows.map(({ blob }) => blob);
}, 120_000);

afterAll(() => service.destroy());

/** As a thief of the PIN: a login of this process, beside the service's. */
async function withPin<Result>(use: (connection: Connection) => Result): Promise<Result> {
  const hsm = join(service.dataDir, 'hsm');
  await exportSofthsmConf(join(hsm, 'softhsm2.conf'));
  const cryptoki = loadAlone(findSoftHsm() ?? '');
  try {
    const pin = await readPin(join(hsm, 'user.pin'));
    const request = { op: 'open', tokenEpoch: 1, pin, abandoned: [] } as const;
    return use(Connection.open(cryptoki, { label: `${NAME.tokenLabel}-development` }, request));
  } finally {
    cryptoki.C_Finalize();
  }
}

const rootOf = (connection: Connection): Handle => {
  const [root] = listRoots(connection);
  if (root === undefined) throw new Error('the token has no root');
  return findRoot(connection, root);
};

/** What a refused call would have given; undefined when the token refuses. */
function attempt<Result>(call: () => Result): Result | undefined {
  try {
    return call();
  } catch {
    return undefined;
  }
}

function ownKey(connection: Connection): Handle {
  return connection.run((session, cryptoki) =>
    cryptoki.C_GenerateKey(
      session,
      { mechanism: CKM.AES_KEY_GEN },
      attributes({ token: false, private: true, valueLen: 32, wrap: true, unwrap: true }),
    ),
  );
}

/** Every choice of what a template says about reading and wrapping, left out included. */
function* templates(): Generator<Attribute[]> {
  const flag = (type: number): Attribute[][] => [
    [],
    [{ type, value: false }],
    [{ type, value: true }],
  ];
  for (const [objectClass, keyType] of [
    [CKO.PRIVATE_KEY, CKK.EC],
    [CKO.SECRET_KEY, CKK.GENERIC_SECRET],
    [CKO.SECRET_KEY, CKK.AES],
  ] as const) {
    const kind = attributes({ class: objectClass, keyType, token: false, private: true });
    for (const sensitive of flag(CKA.SENSITIVE)) {
      for (const extractable of flag(CKA.EXTRACTABLE)) {
        for (const trusted of flag(CKA.WRAP_WITH_TRUSTED)) {
          for (const unwrap of flag(CKA.UNWRAP)) {
            yield [...kind, ...sensitive, ...extractable, ...trusted, ...unwrap];
          }
        }
      }
    }
  }
}

/** How a key can be had from a handle: read, or wrapped under a key of one's own. */
function gains(connection: Connection, handle: Handle, own: Handle): string[] {
  const read = attempt(() =>
    connection.run((session, cryptoki) => readAttribute(cryptoki, session, handle, CKA.VALUE)),
  );
  const mechanism = { mechanism: wrapMechanism(connection) };
  const wrapped = attempt(() =>
    connection.run((session, cryptoki) =>
      cryptoki.C_WrapKey(session, mechanism, own, handle, Buffer.alloc(4096)),
    ),
  );
  return [
    ...((read?.length ?? 0) > 0 ? ['read'] : []),
    ...(wrapped === undefined ? [] : ['wrapped']),
  ];
}

describe('P1: with PIN and database', () => {
  it('no stored classical half can be unwrapped so that it is readable', async () => {
    expect(blobs).toHaveLength(SUITES.length - 1 + 2);
    const { opened, gained } = await withPin((connection) => {
      const [root, own] = [rootOf(connection), ownKey(connection)];
      const mechanism = { mechanism: wrapMechanism(connection) };
      const found = { opened: 0, gained: [] as string[] };
      for (const blob of blobs) {
        for (const template of templates()) {
          const handle = attempt(() =>
            connection.run((session, cryptoki) =>
              cryptoki.C_UnwrapKey(session, mechanism, root, blob, template),
            ),
          );
          if (handle === undefined) continue;
          found.opened += 1;
          found.gained.push(...gains(connection, handle, own));
          connection.destroy(handle);
        }
      }
      return found;
    });
    // Templates that say no more than they may do unwrap: the attack reaches the keys.
    expect(opened).toBeGreaterThanOrEqual(blobs.length);
    expect(gained).toEqual([]);
  }, 60_000);

  it('no key on the token can be read, wrapped away, or copied so that it can', async () => {
    const { keys, gained } = await withPin((connection) => {
      const own = ownKey(connection);
      const found = { keys: 0, gained: [] as string[] };
      const objects = connection.run((session, cryptoki) =>
        findObjects(cryptoki, session, attributes({ token: true })),
      );
      for (const handle of objects) {
        const type = connection.run((session, cryptoki) => readClass(cryptoki, session, handle));
        if (type !== CKO.PRIVATE_KEY && type !== CKO.SECRET_KEY) continue;
        found.keys += 1;
        found.gained.push(...gains(connection, handle, own), ...copied(connection, handle, own));
      }
      return found;
    });
    // The root, the X25519 half, what signs checkpoints of the log, and the note that the root is in use.
    expect({ keys, gained }).toEqual({ keys: 4, gained: [] });
  }, 60_000);

  it('the database does not hold what it would take to unseal without the token', async () => {
    const { rows } = await withDatabaseOf(service.dataDir, (client) =>
      client.query<{ half: Buffer }>(
        `select pq_sealed as half from public.key_version where pq_sealed is not null
          union all select psk_sealed from public.key_version where psk_sealed is not null`,
      ),
    );
    expect(rows).toHaveLength(4 + 3);
    // Seal version, IV, seed of 64 or 32 bytes or psk of 32, tag.
    for (const { half } of rows)
      expect([1 + 12 + 64 + 16, 1 + 12 + 32 + 16]).toContain(half.length);
    expect(new Set(rows.map(({ half }) => half.subarray(1, 13).toString('hex'))).size).toBe(7);
  });
});

function copied(connection: Connection, handle: Handle, own: Handle): string[] {
  const changes: Attribute[][] = [
    [{ type: CKA.SENSITIVE, value: false }],
    [{ type: CKA.EXTRACTABLE, value: true }],
    [{ type: CKA.WRAP_WITH_TRUSTED, value: false }],
    [{ type: CKA.MODIFIABLE, value: true }],
  ];
  return changes.flatMap((change) => {
    const copy = attempt(() =>
      connection.run((session, cryptoki) =>
        cryptoki.C_CopyObject(session, handle, [{ type: CKA.TOKEN, value: false }, ...change]),
      ),
    );
    if (copy === undefined) return [];
    const found = gains(connection, copy, own).map((gain) => `${gain} by a copy`);
    connection.destroy(copy);
    return found;
  });
}
