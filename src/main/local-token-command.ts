/**
 * `twofold bootstrap` and `twofold break-glass`: a token for who holds the HSM's PIN, made beside a
 * running service or without one. The PIN is offered to the token once; the root behind it makes the
 * MACs without which no server takes the token, and the entry in the audit log.
 */
import { randomUUID } from 'node:crypto';
import { userInfo } from 'node:os';

import { operatorGrant } from '../access/local-access.ts';
import type { LocalKind } from '../access/local-access.ts';
import { createAuditLog } from '../audit/log.ts';
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { ENVELOPE_VERSION } from '../crypto/envelope.ts';
import { SUITES } from '../crypto/suites.ts';
import { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { openGovernance } from '../governance/governance.ts';
import type { Governance } from '../governance/governance.ts';
import { ROOT_NAMESPACE } from '../governance/namespaces.ts';
import { IntegrityWatch } from '../keyring/integrity.ts';
import { openRoot } from '../keyring/root-opening.ts';
import { UsageCounters } from '../keyring/usage.ts';
import { openStore } from '../store/store.ts';
import { openDevice } from './device.ts';
import { databaseUrls } from './doctor-command.ts';
import { SILENT } from './silent-log.ts';
import { Unwinding } from './unwinding.ts';

const FLAGS = {
  'pin-file': 'value',
  reason: 'value',
  namespace: 'value',
  header: 'switch',
} as const;

interface Wanted {
  readonly kind: LocalKind;
  readonly pinFile: string;
  readonly reason: string;
  readonly namespace: string;
}

/** What the machine says of who runs the command. */
function operator(): string {
  const { username, uid } = userInfo();
  return `${username}(${String(uid)})`;
}

/** @throws TwofoldError invalid_value */
function wantedOf(kind: LocalKind, values: ReadonlyMap<string, readonly string[]>): Wanted {
  const one = (name: string) => values.get(name)?.[0];
  const [pinFile, reason] = [one('pin-file'), one('reason')];
  if (pinFile === undefined || reason === undefined) {
    throw new TwofoldError('invalid_value', '--pin-file FILE and --reason TEXT are needed.');
  }
  const namespace = one('namespace') ?? ROOT_NAMESPACE;
  if (kind === 'bootstrap' && namespace !== ROOT_NAMESPACE) {
    throw new TwofoldError('invalid_value', `Bootstrap is of the namespace ${ROOT_NAMESPACE}.`);
  }
  return { kind, pinFile, reason, namespace };
}

/**
 * Prints the token, or with `--header` the line for `curl -H @file`; it is shown this once.
 * @throws TwofoldError invalid_value, hsm_unavailable where the token does not take the PIN, conflict
 *   where there are policies already, not_found for a namespace that is not there
 */
export async function localTokenCommand(
  config: Config,
  kind: LocalKind,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<void> {
  const parsed = parseFlags(argv, FLAGS);
  requireNothingMore(parsed);
  const wanted = wantedOf(kind, parsed.values);
  const unwinding = new Unwinding((step, error) => {
    process.emitWarning(`${step} could not be closed: ${String(error)}`);
  });
  try {
    const token = await makeToken(config, wanted, unwinding);
    print(parsed.values.has('header') ? `Authorization: Bearer ${token}` : token);
  } finally {
    await unwinding.unwind();
  }
}

async function makeToken(config: Config, wanted: Wanted, unwinding: Unwinding): Promise<string> {
  const { governance, epoch } = await openBeside(config, wanted, unwinding);
  const { kind, namespace, reason } = wanted;
  if ((await governance.namespaces.standing(namespace)) === 'absent') {
    throw new TwofoldError('not_found', 'There is no such namespace.');
  }
  if (kind === 'bootstrap' && (await governance.localTokens.areRuled())) {
    throw new TwofoldError('conflict', 'There are stored policies: bootstrap is over.');
  }
  const about = { operator: operator(), namespace: ROOT_NAMESPACE, epoch };
  const grant = operatorGrant(`${kind}.open`, about);
  const { token } = await governance.localTokens.open(
    grant,
    { kind, namespace, reason },
    {
      dryRun: false,
      requestId: randomUUID(),
      ended: Promise.resolve(),
      source: 'local',
      ifMatch: null,
      idempotency: null,
      render: () => ({ status: 200, body: '{}' }),
    },
  );
  return token;
}

/** An instance of its own for as long as the command runs, with a lane for its entry. */
async function openBeside(
  config: Config,
  { pinFile }: Wanted,
  unwinding: Unwinding,
): Promise<{ readonly governance: Governance; readonly epoch: SecurityEpoch }> {
  const { tls, caFile } = config.database;
  const { app } = await databaseUrls(config, unwinding);
  const store = openStore({ url: app, tls, caFile, max: 3 });
  unwinding.add('database pool', () => store.close());
  const { hsm } = await openDevice(config, SILENT, unwinding, false, pinFile);
  // The first attempt is over, and there is no other.
  const { ready, state, detail } = hsm.status();
  if (!ready) throw new TwofoldError('hsm_unavailable', `${state}: ${detail}`);
  const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  const instance = randomUUID();
  const suites = Object.values(SUITES).map(({ number }) => number);
  const zone = config.zone.name;
  const row = { id: instance, zone, suites, envelopes: [ENVELOPE_VERSION], graceMs: 0 };
  await store.instances.open(row);
  unwinding.add('instance', () => store.instances.close(instance));
  const epoch = new SecurityEpoch((await store.instances.beat(instance, 0)).epoch);
  const refreshEpoch = async () => epoch.advance(await store.audit.changesSince(epoch.current));
  const audit = createAuditLog({ store: store.audit, mac: root.auditMac, epoch, instance, zone });
  await audit.start();
  unwinding.add('audit lanes', async () => {
    await audit.stop();
  });
  const governance = openGovernance({
    store: store.keys,
    sets: store.sets,
    approvals: store.approvals,
    audit,
    epoch,
    refreshEpoch,
    mac: root.mac,
    integrity: new IntegrityWatch(),
    clock: () => new Date(),
    // No key is used by this command.
    findKey: () => Promise.resolve(null),
  });
  return { governance, epoch };
}
