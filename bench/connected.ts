/** Beside a service that runs: its database as the owner and as the server, its token, and its root. */
import pg from 'pg';

import { openRoot } from '../src/keyring/root-opening.ts';
import { UsageCounters } from '../src/keyring/usage.ts';
import { findEmbedded } from '../src/store/embedded.ts';
import { openStore } from '../src/store/store.ts';
import type { Store } from '../src/store/store.ts';
import type { TestService } from '../test/e2e/service.ts';
import { openToken } from './token-connection.ts';

export interface Connected {
  readonly owner: pg.Client;
  readonly store: Store;
  readonly root: Awaited<ReturnType<typeof openRoot>>;
}

/** Everything is closed once `use` has ended. */
export async function connected<T>(
  { dataDir }: Pick<TestService, 'dataDir'>,
  use: (connected: Connected) => Promise<T>,
): Promise<T> {
  const database = findEmbedded(dataDir);
  if (database === null) throw new Error('no database runs');
  const owner = new pg.Client({ connectionString: database.ownerUrl });
  await owner.connect();
  const store = openStore({ url: database.appUrl });
  try {
    const hsm = await openToken(dataDir);
    try {
      const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
      return await use({ owner, store, root });
    } finally {
      await hsm.close();
    }
  } finally {
    await store.close();
    await owner.end();
  }
}
