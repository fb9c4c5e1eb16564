/** Callers who each do one thing after the other through the proxy, and never ask again. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import type { ZoneClient } from '../zones/zone-client.ts';

export interface Load {
  /** Ends after the request under way; counts and everything that failed. */
  stop(): Promise<{ readonly requests: number; readonly failures: readonly string[] }>;
  readonly requests: number;
}

/** Enough that one is under way whenever an instance stops. */
const BATCH_ITEMS = 200;

/** Between two requests, ms: each connection is idle for most of the time, as those of most clients are. */
const PAUSE_MS = 20;

/** `keys`: names of a key to wrap with and one to sign with. */
export function startLoad(
  clients: readonly ZoneClient[],
  keys: { readonly wrap: string; readonly sign: string },
): Load {
  const failures: string[] = [];
  let [stopped, requests] = [false, 0];
  const call = async (client: ZoneClient, method: string, path: string, body: object) => {
    requests += 1;
    await sleep(Math.random() * 2 * PAUSE_MS);
    const { status, json } = await client.request(method, path, body);
    if (status >= 300) throw new Error(`${method} ${path}: ${String(status)} ${String(json.code)}`);
    return json;
  };
  /** An item that fails is a failure of its own, in an answer that is none. */
  const batches = async (client: ZoneClient, plaintext: string): Promise<void> => {
    const items = Array.from({ length: BATCH_ITEMS }, () => ({ plaintext }));
    const wrapped = await call(client, 'POST', `/v1/keys/${keys.wrap}/wrap/batch`, { items });
    const sealed = (wrapped['results'] as readonly { ciphertext: string }[]).map(
      ({ ciphertext }) => ({ ciphertext }),
    );
    const path = `/v1/keys/${keys.wrap}/unwrap/batch`;
    const { results } = await call(client, 'POST', path, { items: sealed });
    const opened = results as readonly { plaintext?: string; error?: unknown }[];
    const failed = opened.find((each) => each.plaintext !== plaintext);
    if (opened.length !== BATCH_ITEMS || failed !== undefined)
      throw new Error(`an item of a batch: ${JSON.stringify(failed?.error)}`);
  };
  const turn = async (client: ZoneClient, round: number): Promise<void> => {
    const plaintext = randomBytes(32).toString('base64');
    const { ciphertext } = await call(client, 'POST', `/v1/keys/${keys.wrap}/wrap`, { plaintext });
    const opened = await call(client, 'POST', `/v1/keys/${keys.wrap}/unwrap`, { ciphertext });
    if (opened['plaintext'] !== plaintext) throw new Error('another plaintext');
    const message = plaintext;
    const { signature } = await call(client, 'POST', `/v1/keys/${keys.sign}/sign`, { message });
    const path = `/v1/keys/${keys.sign}/verify`;
    const verified = await call(client, 'POST', path, { message, signature });
    if (verified['valid'] !== true) throw new Error('a signature that does not verify');
    if (round % 5 === 0) await batches(client, plaintext);
    if (round % 10 !== 0) return;
    const name = `made-${randomBytes(6).toString('hex')}`;
    await call(client, 'POST', '/v1/admin/keys', { name, suite: 'A256GCM' });
    await call(client, 'POST', `/v1/admin/keys/${name}/rotate`, {});
  };
  const caller = async (client: ZoneClient): Promise<void> => {
    for (let round = 0; !stopped; round += 1) {
      const began = new Date().toISOString();
      await turn(client, round).catch((error: unknown) => {
        failures.push(`${began} ${String(error)} ${String(Reflect.get(Object(error), 'code'))}`);
      });
    }
  };
  const callers = clients.map(caller);
  return {
    get requests() {
      return requests;
    },
    stop: async () => {
      stopped = true;
      await Promise.all(callers);
      for (const client of clients) client.close();
      return { requests, failures };
    },
  };
}
