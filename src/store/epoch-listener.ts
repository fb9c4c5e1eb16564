/**
 * Tells an instance of new security epochs at once, by NOTIFY, instead of at its next append.
 *
 * Only promptness hangs on it: the epoch barrier refuses what an instance does under an old epoch
 * whether it was told or not.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createPool } from './pool.ts';
import type { GuardedPool, PoolOptions } from './pool.ts';

export interface EpochListener {
  close(): Promise<void>;
}

/** How often the epoch is read as well: a frozen server or a dead connection says nothing. */
const CHECK_MS = 5000;
const PAUSE_MS = 500;

/**
 * Calls `onEpoch` with the current epoch after each connect and with every new one; the same epoch
 * may come again. Holds one connection of its own and makes a new one whenever that is lost.
 */
export const listenEpoch = (
  options: PoolOptions,
  onEpoch: (epoch: number) => void,
): EpochListener => {
  const pool = createPool({ ...options, max: 1 });
  const closing = new AbortController();
  const running = (async () => {
    while (!closing.signal.aborted) {
      await listen(pool, onEpoch, closing.signal).catch(() => undefined);
      await pause(PAUSE_MS, closing.signal);
    }
  })();
  return {
    close: async () => {
      closing.abort();
      await running;
      await pool.end();
    },
  };
};

/** Until the connection is lost or `closing`. */
const listen = async (
  pool: GuardedPool,
  onEpoch: (epoch: number) => void,
  closing: AbortSignal,
): Promise<void> => {
  const client = await pool.connect();
  const lost = new AbortController();
  client.once('end', () => lost.abort());
  client.on('notification', ({ payload }) => onEpoch(Number(payload)));
  try {
    await client.query('listen twofold_epoch');
    while (!closing.aborted && !lost.signal.aborted) {
      const { rows } = await client.query<{ epoch: string }>(
        'select epoch from public.security_epoch',
      );
      onEpoch(Number(rows[0]?.epoch));
      await pause(CHECK_MS, AbortSignal.any([closing, lost.signal]));
    }
  } finally {
    client.removeAllListeners('notification');
    client.release(!closing.aborted);
  }
};

const pause = async (milliseconds: number, signal: AbortSignal): Promise<void> => {
  await sleep(milliseconds, undefined, { signal }).catch(() => undefined);
};
