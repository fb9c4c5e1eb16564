/**
 * What the audit log takes from the throughput of uses: the same service as it is, without the sequencer,
 * and without any append, in turns of one run. The switches are of this folder alone: a service has none.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { TestService } from '../test/e2e/service.ts';
import { closedLoop } from './load.ts';
import { prepareOperations } from './operations.ts';
import type { Operation } from './operations.ts';
import { median } from './slices.ts';

/** 15 % less. */
const MOST = 0.15;
const OPERATIONS = ['hybrid unwrap', 'A256GCM unwrap'];

const VARIANTS = {
  everything: null,
  'no sequencer': 'without-sequencer.ts',
  'no append': 'without-append.ts',
} as const;
type Variant = keyof typeof VARIANTS;

export interface AuditCostRow {
  readonly operation: string;
  readonly inFlight: number;
  /** Requests a second, medians over slices. */
  readonly perSecond: Readonly<Record<Variant, number>>;
  /** Share of the throughput that is lost to everything, and to the sequencer alone; medians of the rounds. */
  readonly cost: { readonly audit: number; readonly sequencer: number };
}

interface Running {
  readonly variant: Variant;
  readonly service: TestService;
  readonly operations: readonly Operation[];
}

const start = async (variant: Variant): Promise<Running> => {
  const preload = VARIANTS[variant];
  const url = preload === null ? null : pathToFileURL(join(import.meta.dirname, preload)).href;
  const environment = url === null ? {} : { NODE_OPTIONS: `--import=${url}` };
  const service = await TestService.start({ environment });
  return { variant, service, operations: await prepareOperations(service) };
};

export async function measureAuditCost(options: {
  readonly rounds: number;
  readonly seconds: number;
  readonly inFlight: readonly number[];
}): Promise<readonly AuditCostRow[]> {
  const running: Running[] = [];
  try {
    for (const variant of Object.keys(VARIANTS) as Variant[]) running.push(await start(variant));
    const rows: AuditCostRow[] = [];
    for (const operation of OPERATIONS) {
      for (const inFlight of options.inFlight) {
        rows.push(await compare(running, operation, { ...options, inFlight }));
      }
    }
    return rows;
  } finally {
    for (const { service } of running) await service.destroy();
  }
}

async function compare(
  running: readonly Running[],
  name: string,
  { rounds, seconds, inFlight }: Record<'rounds' | 'seconds' | 'inFlight', number>,
): Promise<AuditCostRow> {
  const found: Record<Variant, number[]> = { everything: [], 'no sequencer': [], 'no append': [] };
  for (let round = -1; round < rounds; round += 1) {
    for (let at = 0; at < running.length; at += 1) {
      // Each is first in its turn.
      const each = running[(at + round + 1) % running.length];
      const operation = each?.operations.find((one) => one.name === name);
      if (each === undefined || operation === undefined) throw new Error(`no ${name}`);
      const target = { url: new URL(each.service.url) };
      const load = await closedLoop(target, operation.request, { inFlight, seconds });
      // The first round warms up.
      if (round >= 0) found[each.variant].push(load.perSecond);
    }
  }
  const lost = (less: Variant, more: Variant): number =>
    1 - median(found[less].map((rate, round) => rate / (found[more][round] ?? rate)));
  return {
    operation: name,
    inFlight,
    perSecond: {
      everything: median(found.everything),
      'no sequencer': median(found['no sequencer']),
      'no append': median(found['no append']),
    },
    cost: {
      audit: lost('everything', 'no append'),
      sequencer: lost('everything', 'no sequencer'),
    },
  };
}

export function renderAuditCost(rows: readonly AuditCostRow[]): string {
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  return rows
    .map(({ operation, inFlight, perSecond, cost }) => {
      const rates = Object.entries(perSecond).map(([name, rate]) => `${name} ${rate.toFixed(0)}/s`);
      const met = cost.audit < MOST ? 'met' : 'MISSED';
      return (
        `${operation}, ${String(inFlight)} in flight: ${rates.join(', ')}; ` +
        `audit takes ${percent(cost.audit)} (< 15 %: ${met}), of that the sequencer ${percent(cost.sequencer)}`
      );
    })
    .join('\n');
}
