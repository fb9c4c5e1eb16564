/**
 * What a command needs that works beside running instances, on their database and token: the store, the
 * token's sessions, and an instance of its own for as long as it runs, with a lane for its entries.
 */
import { randomUUID } from 'node:crypto';
import { userInfo } from 'node:os';

import { createAuditLog } from '../audit/log.ts';
import type { RunningAuditLog } from '../audit/log.ts';
import type { Config } from '../config.ts';
import { ENVELOPE_VERSION } from '../crypto/envelope.ts';
import { SUITES } from '../crypto/suites.ts';
import { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import type { Root } from '../keyring/root.ts';
import { openStore } from '../store/store.ts';
import type { Store } from '../store/store.ts';
import { Confirmations } from './confirmations.ts';
import { openDevice } from './device.ts';
import type { Device } from './device.ts';
import { databaseUrls } from './doctor-command.ts';
import { SILENT } from './silent-log.ts';
import { Unwinding } from './unwinding.ts';

/** What the machine says of who runs the command. */
export function operator(): string {
  const { username, uid } = userInfo();
  return `${username}(${String(uid)})`;
}

/** Runs a command and undoes what it opened, whatever becomes of it. */
export async function besides<T>(run: (unwinding: Unwinding) => Promise<T>): Promise<T> {
  const unwinding = new Unwinding((step, error) => {
    process.emitWarning(`${step} could not be closed: ${String(error)}`);
  });
  try {
    return await run(unwinding);
  } finally {
    await unwinding.unwind();
  }
}

/** As the server's role. */
export async function storeBeside(config: Config, unwinding: Unwinding): Promise<Store> {
  const { tls, caFile } = config.database;
  const { app } = await databaseUrls(config, unwinding);
  const store = openStore({ url: app, tls, caFile, max: 3 });
  unwinding.add('database pool', () => store.close());
  return store;
}

/**
 * `pinFile`: another than the configured one.
 * @throws TwofoldError hsm_unavailable where the token does not take the PIN: there is one attempt
 */
export async function deviceBeside(
  config: Config,
  unwinding: Unwinding,
  pinFile?: string,
): Promise<Device> {
  const device = await openDevice(config, SILENT, unwinding, false, pinFile);
  const { ready, state, detail } = device.hsm.status();
  if (!ready) throw new TwofoldError('hsm_unavailable', `${state}: ${detail}`);
  return device;
}

const nothing = (): void => undefined;

export interface InstanceBeside {
  readonly instance: string;
  readonly epoch: SecurityEpoch;
  readonly refreshEpoch: () => Promise<void>;
  readonly audit: RunningAuditLog;
}

export async function instanceBeside(
  config: Config,
  store: Store,
  root: Root,
  unwinding: Unwinding,
): Promise<InstanceBeside> {
  const instance = randomUUID();
  const suites = Object.values(SUITES).map(({ number }) => number);
  const zone = config.zone.name;
  await store.instances.open({
    ...{ id: instance, zone, suites, envelopes: [ENVELOPE_VERSION], graceMs: 0 },
  });
  unwinding.add('instance', () => store.instances.close(instance));
  await store.instances.announceGenerations(instance, root.generations);
  const epoch = new SecurityEpoch((await store.instances.beat(instance, 0)).epoch);
  const refreshEpoch = async () => epoch.advance(await store.audit.changesSince(epoch.current));
  const macs = { mac: root.auditMac, values: root.valueMac };
  const { settle: confirmed } = new Confirmations({
    ...{ store: store.grace, instance, known: () => epoch.current, learn: refreshEpoch },
    onFenced: nothing,
  });
  const audit = createAuditLog({ store: store.audit, ...macs, epoch, instance, zone, confirmed });
  await audit.start();
  unwinding.add('audit lanes', async () => {
    await audit.stop();
  });
  return { instance, epoch, refreshEpoch, audit };
}
