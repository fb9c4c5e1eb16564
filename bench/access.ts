/**
 * Access decisions among 10,000 principals: remembered, by scopes, and with Cedar; and how long a change
 * of one policy keeps the process from everything else. In one process and without a database.
 */
import { DECISIONS_REMEMBERED, PolicyAuthorizer } from '../src/access/authorize.ts';
import { BoundedCache } from '../src/access/bounded-cache.ts';
import { readSchema } from '../src/access/cedar-schema.ts';
import { compilePolicy, validatePolicy } from '../src/access/compiled-policy.ts';
import { SCHEMA } from '../src/access/policies.ts';
import { SERVICE } from '../src/access/system.ts';
import { policySetOf } from '../src/governance/policy-sets.ts';
import type { Principal } from '../src/access/grant.ts';
import type { Bound } from './report.ts';

const PRINCIPALS = 10_000;
const SIZES = [1, 100, 1_000] as const;
/** Of one figure, so that a slice that something else took is not the answer. */
const ROUNDS = 9;
const DECISIONS = 2_000;
const RESOURCE = { namespace: 'default', key: 'k' } as const;
const FACTS = { encryptionContext: { tenant: 't1' } };

export interface AccessRow {
  readonly policies: number;
  /** Microseconds a decision; medians over rounds. */
  readonly remembered: number;
  readonly scopes: number;
  readonly conditions: number;
}

export interface AccessReport {
  readonly rows: readonly AccessRow[];
  /**
   * Milliseconds: compiling one policy, validating it (which a thread of its own does), and making of all
   * of them a set that decides.
   */
  readonly change: {
    readonly compiled: number;
    readonly validated: number;
    readonly made: number;
  };
}

const condition = (n: number): string =>
  ` when { context has encryptionContext && context.encryptionContext.hasTag("tenant")
    && context.encryptionContext.getTag("tenant") == "t${String(n)}" }`;
const text = (n: number, rest: string): string =>
  `permit (principal in Role::"r${String(n)}", action == Action::"wrap", resource in Namespace::"default")${rest};`;

function setOf(size: number, textOf: (n: number) => string) {
  const members = Array.from({ length: size }, (_, n) => {
    const source = { kind: 'cedar', text: textOf(n) } as const;
    return [`p${String(n)}`, { value: { description: '', source } }] as const;
  });
  return policySetOf('default', { revision: 1, members: new Map(members) });
}

const principalsOf = (size: number): readonly Principal[] =>
  Array.from({ length: PRINCIPALS }, (_, n) => ({
    ...SERVICE,
    issuer: 'https://issuer.example',
    subject: `s${String(n)}`,
    method: 'jwt',
    roles: [`r${String(n % size)}`],
  }));

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** Microseconds of one. */
function timed(act: (n: number) => unknown): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const began = performance.now();
    for (let n = 0; n < DECISIONS; n += 1) act(n);
    return ((performance.now() - began) * 1_000) / DECISIONS;
  });
  return median(rounds);
}

function rowOf(size: number): AccessRow {
  const principals = principalsOf(size);
  const who = (n: number) => principals[n % PRINCIPALS] as Principal;
  const deciding = (textOf: (n: number) => string) =>
    new PolicyAuthorizer({
      policies: setOf(size, textOf),
      epoch: () => 1,
      decisions: new BoundedCache(DECISIONS_REMEMBERED),
      clock: () => new Date(),
    });
  const plain = deciding((n) => text(n, ''));
  const conditional = deciding((n) => text(n, condition(n)));
  const ask = (of: PolicyAuthorizer) => (n: number) => of.explain(who(n), 'wrap', RESOURCE, FACTS);
  return {
    policies: size,
    remembered: timed((n) => conditional.decide(who(n), 'wrap', RESOURCE, FACTS)),
    scopes: timed(ask(plain)),
    conditions: timed(ask(conditional)),
  };
}

/** What a change of one among a thousand does, as an instance meets it that knows the others. */
function changeOf(size: number): AccessReport['change'] {
  const schema = readSchema(SCHEMA);
  setOf(size, (n) => text(n, condition(n)));
  const [compiled, validated, made]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < ROUNDS * 3; round += 1) {
    const changed = text(0, condition(size + round));
    const began = performance.now();
    compilePolicy(changed);
    const parsed = performance.now();
    validatePolicy(schema, changed, 'p0');
    const then = performance.now();
    setOf(size, (n) => (n === 0 ? changed : text(n, condition(n))));
    compiled.push(parsed - began);
    validated.push(then - parsed);
    made.push(performance.now() - then);
  }
  return { compiled: median(compiled), validated: median(validated), made: median(made) };
}

export function measureAccess(): AccessReport {
  const rows = SIZES.map(rowOf);
  return { rows, change: changeOf(Math.max(...SIZES)) };
}

export function accessBounds({ rows, change }: AccessReport): readonly Bound[] {
  const most = rows.at(-1);
  if (most === undefined) return [];
  const micros = (what: string, value: number, limit: number): Bound => ({
    what: `${what}, ${String(most.policies)} policies`,
    figure: `${value.toFixed(1)} µs`,
    bound: `< ${String(limit)} µs`,
    met: value < limit,
  });
  const { compiled, validated, made } = change;
  const block = compiled + made;
  return [
    micros('access decision, remembered', most.remembered, 5),
    micros('access decision by scopes', most.scopes, 100),
    micros('access decision with conditions', most.conditions, 100),
    {
      what: 'what a change of one policy holds the process up, median',
      figure: `${block.toFixed(1)} ms (compiled ${compiled.toFixed(1)}, set made ${made.toFixed(1)}; validated beside it in ${validated.toFixed(1)})`,
      bound: '< 10 ms',
      met: block < 10,
    },
  ];
}

export function renderAccess(report: AccessReport): string {
  const rows = report.rows.map(
    ({ policies, remembered, scopes, conditions }) =>
      `${String(policies).padStart(8)} ${remembered.toFixed(2).padStart(12)} ${scopes.toFixed(2).padStart(10)} ${conditions.toFixed(1).padStart(12)}`,
  );
  const bounds = accessBounds(report).map(
    ({ what, figure, bound, met }) =>
      `${met ? 'met    ' : 'NOT MET'} ${what}: ${figure} (${bound})`,
  );
  return ['policies   remembered     scopes   conditions   µs a decision', ...rows, ...bounds].join(
    '\n',
  );
}
