/**
 * `twofold bootstrap` and `twofold break-glass`: a token for who holds the HSM's PIN, made beside a
 * running service or without one. The PIN is offered to the token once; the root behind it makes the
 * MACs without which no server takes the token, and the entry in the audit log.
 */
import { randomUUID } from 'node:crypto';

import { operatorGrant } from '../access/local-access.ts';
import type { LocalKind } from '../access/local-access.ts';
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import type { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { openGovernance } from '../governance/governance.ts';
import type { Governance } from '../governance/governance.ts';
import { ROOT_NAMESPACE } from '../governance/namespaces.ts';
import { IntegrityWatch } from '../keyring/integrity.ts';
import { openRoot } from '../keyring/root-opening.ts';
import { UsageCounters } from '../keyring/usage.ts';
import { besides, deviceBeside, instanceBeside, operator, storeBeside } from './beside.ts';
import type { Unwinding } from './unwinding.ts';

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
  const token = await besides((unwinding) => makeToken(config, wanted, unwinding));
  print(parsed.values.has('header') ? `Authorization: Bearer ${token}` : token);
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
  const store = await storeBeside(config, unwinding);
  const { hsm } = await deviceBeside(config, unwinding, pinFile);
  const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  const { epoch, refreshEpoch, audit } = await instanceBeside(config, store, root, unwinding);
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
