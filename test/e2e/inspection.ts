/** Looks at a service's database and token by connections of its own. */
import { join } from 'node:path';

import type pg from 'pg';

import { findSoftHsm } from '../../src/config.ts';
import { createHsm } from '../../src/hsm/pool.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import { ensureDevelopmentToken } from '../../src/hsm/development-token.ts';
import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { leafHash } from '../../src/audit/entry.ts';
import { findEmbedded } from '../../src/store/embedded.ts';
import type { DurableEntry } from '../audit/instances.ts';
import { withClient } from '../store/owner.ts';

const nothing = (): void => undefined;

/** A connection as the owner of the embedded database that runs in the folder now. */
export const withDatabaseOf = <T>(
  dataDir: string,
  use: (client: pg.Client) => Promise<T>,
): Promise<T> => {
  const running = findEmbedded(dataDir);
  if (running === null) throw new Error(`no database runs in ${dataDir}`);
  return withClient(running.ownerUrl, use);
};

/** A session of this process on the folder's token, beside the service's. One at a time. */
export const openTokenOf = async (dataDir: string): Promise<PooledHsm> => {
  const module = findSoftHsm();
  if (module === undefined) throw new Error('SoftHSM is not installed; run scripts/setup');
  const log = { info: nothing, warn: nothing, error: nothing };
  const token = await ensureDevelopmentToken({ dataDir, module, log });
  const hsm = await createHsm({
    module,
    tokenSelector: { label: token.tokenLabel },
    pinFile: token.pinFile,
    workers: 1,
    queueLimit: 100,
    deadlineMs: 30_000,
    stateDir: dataDir,
    env: { SOFTHSM2_CONF: token.softhsmConf },
    log,
  });
  const { ready, detail } = hsm.status();
  if (!ready) throw new Error(`the token of ${join(dataDir, 'hsm')} is not ready: ${detail}`);
  return hsm;
};

interface Row {
  readonly lane: number;
  readonly n: string;
  readonly leaf: Buffer;
  readonly body: Buffer;
  readonly batch_hmac: Buffer | null;
}

/** The entries of lanes after `lane`, as they are stored; throws where one is not what it says. */
export const entriesAfter = async (
  client: pg.Client,
  after: number,
): Promise<readonly DurableEntry[]> => {
  const { rows } = await client.query<Row>(
    'select lane, n, leaf, body, batch_hmac from public.entry where lane > $1 order by lane, n',
    [after],
  );
  return rows.map(({ lane, n, leaf, body, batch_hmac: hmac }) => {
    const entry = decodeEntry(Uint8Array.from(body));
    const sound = entry.lane === lane && entry.n === Number(n) && leaf.equals(leafHash(body));
    if (!sound) throw new Error(`entry ${lane}-${n} is not what its place says`);
    return { ...entry, id: `${lane}-${n}`, leaf, hmac };
  });
};

/** What is wrong with root and token objects; empty when each belongs to a row and each row to one. */
export const strayTokenObjects = async (client: pg.Client, hsm: PooledHsm): Promise<string[]> => {
  const wrong: string[] = [];
  const roots = await hsm.roots();
  const { rows: generations } = await client.query<{ installation: string; state: string }>(
    'select installation, state from public.root_generation',
  );
  const [generation] = generations;
  if (generations.length !== 1 || generation?.state !== 'in-force') {
    wrong.push(`root rows: ${JSON.stringify(generations)}`);
  }
  if (roots.length !== 1 || roots[0]?.installation !== generation?.installation) {
    wrong.push(`roots on the token: ${JSON.stringify(roots)}`);
  }
  const objects = await hsm.tokenKeys(generation?.installation ?? '');
  const { rows } = await client.query<{ id: string }>(
    `select encode(classical_object_id, 'hex') as id from public.key_version
      where classical_object_id is not null
      union all select encode(object_id, 'hex') from public.log_key where object_id is not null`,
  );
  const onToken = objects.map(({ objectId }) => Buffer.from(objectId).toString('hex')).toSorted();
  const named = rows.map(({ id }) => id).toSorted();
  wrong.push(...onToken.filter((id) => !named.includes(id)).map((id) => `orphan ${id}`));
  wrong.push(...named.filter((id) => !onToken.includes(id)).map((id) => `no object ${id}`));
  if (new Set(onToken).size !== onToken.length) wrong.push('an object is there twice');
  const intents = await client.query('select from public.token_intent');
  if (intents.rowCount !== 0) wrong.push(`${String(intents.rowCount)} intents are left`);
  return wrong;
};
