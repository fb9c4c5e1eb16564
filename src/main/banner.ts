/** What a start says: versions, self-tests, what this token can do, what to back up, what to try. */
import { join } from 'node:path';

import type { Config } from '../config.ts';
import type { HsmStatus } from '../hsm/port.ts';
import { NAME } from '../name.ts';
import type { RunningService, SuiteStatus } from './running.ts';
import { tour } from './tour.ts';
import { VERSION } from './version.ts';

export function waitingNotice(config: Config, status: HsmStatus): string {
  return [
    `The HSM is not ready (${status.state}): ${status.detail}`,
    config.hsm.pinFile === undefined
      ? 'The start goes on by itself once it is.'
      : `The start goes on by itself once it is; a refused PIN is tried again when ${config.hsm.pinFile} changes.`,
  ].join('\n');
}

function tokenLines(status: HsmStatus): string[] {
  const { token, capabilities, custody } = status;
  const names = (available: boolean) =>
    capabilities.filter((capability) => capability.available === available);
  return [
    `token      ${token?.label ?? 'unknown'} (${token?.manufacturer ?? ''} ${token?.model ?? ''}, serial ${token?.serial ?? ''})`,
    `root       ${custody}`,
    `can        ${names(true)
      .map(({ name }) => name)
      .join(', ')}`,
    ...names(false).map(({ name, reason }) => `cannot     ${name}: ${reason}`),
  ];
}

/** How many are served, and by reason those that are not. */
function suiteLines(suites: readonly SuiteStatus[]): string[] {
  const without = Map.groupBy(
    suites.filter(({ reason }) => reason !== null),
    ({ reason }) => reason,
  );
  const served = suites.filter(({ reason }) => reason === null).length;
  return [
    `suites     ${String(served)} of ${String(suites.length)} can be served; GET /v1/suites has each`,
    ...[...without].map(
      ([reason, lacking]) =>
        `without    ${lacking.map(({ id }) => id).join(', ')}: ${reason ?? ''}`,
    ),
  ];
}

function listenerLines({ adminUrl, metricsUrl }: RunningService): string[] {
  return [
    ...(adminUrl === null ? [] : [`admin      ${adminUrl}/v1/admin`]),
    ...(metricsUrl === null
      ? []
      : [`status     ${metricsUrl}/`, `metrics    ${metricsUrl}/metrics`]),
  ];
}

/** The text after a successful start; in development with the commands of the tour. */
export function welcome(config: Config, service: RunningService): string {
  const lines = [
    `${NAME.product} ${VERSION} is ready at ${service.url}`,
    `node       ${process.versions.node}, OpenSSL ${process.versions.openssl}`,
    `self-tests ${String(service.selfTests)} known answers passed`,
    ...tokenLines(service.hsm),
    ...suiteLines(service.suites),
    ...listenerLines(service),
    `data       ${config.dataDir}`,
  ];
  if (config.mode !== 'dev') return lines.join('\n');
  const hsm = join(config.dataDir, 'hsm');
  return [
    ...lines,
    '',
    'Losing the token loses every key. Back up these together, with the service stopped:',
    `  ${hsm}            the token, its PINs and its configuration`,
    `  ${join(config.dataDir, 'db')}             the database`,
    '  To prove a backup: start from a copy (TWOFOLD_DATA=copy TWOFOLD_PORT=0 TWOFOLD_METRICS_PORT=0 npm start) and unwrap something.',
    '',
    'Try it from another terminal, in this folder:',
    '',
    tour(config.dataDir, service.url),
    '',
    'Ctrl-C stops it.',
  ].join('\n');
}
