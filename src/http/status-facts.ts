/** The parts of the status page that are words: the state, which instance this is, what it runs on. */
import type { Status } from '../contract/status.ts';
import { NOTHING, html } from './markup.ts';
import type { Markup, Part } from './markup.ts';
import { numberText } from './status-plot.ts';

const CHECKS: Readonly<Record<string, string>> = {
  hsm: 'HSM',
  database: 'Database',
  replication: 'Replication',
  audit: 'Audit log',
  log: 'Sequenced log',
  backup: 'Backups',
  integrity: 'Stored rows',
  secrets: 'Secrets',
  access: 'Access',
  service: 'Service',
};

const YES = html`<svg class="good" viewBox="0 0 16 16" aria-hidden="true">
  <circle cx="8" cy="8" r="8" />
  <path d="M4.4 8.3 7 10.8l4.6-5.2" />
</svg>`;
const NO = html`<svg class="poor" viewBox="0 0 16 16" aria-hidden="true">
  <path d="M8 0l8 8-8 8-8-8z" />
  <path d="M8 4.2v4.6M8 10.4v1.6" />
</svg>`;

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
  ['s', 1],
] as const;

/** The two largest units of a duration: `2 h 14 min`. */
export function durationText(seconds: number): string {
  const at = UNITS.findIndex(([, size]) => seconds >= size);
  const [[unit, size] = ['s', 1], lesser] = UNITS.slice(at);
  const count = Math.floor(seconds / size);
  const rest = lesser === undefined ? 0 : Math.floor((seconds - count * size) / lesser[1]);
  return `${count} ${unit}${lesser === undefined || rest === 0 ? '' : ` ${rest} ${lesser[0]}`}`;
}

export function developmentNotice({ mode }: Status): Markup {
  if (mode !== 'dev') return NOTHING;
  return html`<aside class="dev">
    <p class="wide">
      <strong>Development mode</strong> This instance gives out its own tokens. Not for keys that
      matter.
    </p>
  </aside>`;
}

export function stateSection(status: Status): Markup {
  const { ready, checks, workers } = status.readiness;
  const failed = checks.filter((check) => !check.ready).length;
  const passed =
    failed === 0
      ? `All ${checks.length} checks pass.`
      : `${failed} of ${checks.length} checks ${failed === 1 ? 'fails' : 'fail'}.`;
  const serving =
    workers === undefined ? '' : ` ${workers.ready} of ${workers.of} workers are ready.`;
  return html`<section class="state ${ready ? 'good' : 'poor'}">
    <div>
      <h1>${ready ? YES : NO} ${ready ? 'Ready' : 'Not ready'}</h1>
      <p class="lede">${passed}${serving}</p>
      <ul class="checks">
        ${checks.map(checkItem)}
      </ul>
    </div>
    ${identity(status)}
  </section>`;
}

const checkItem = ({ name, ready, state }: Status['readiness']['checks'][number]): Markup =>
  html`<li class="${ready ? 'fine' : 'poor'}">
    ${ready ? YES : NO} <span>${CHECKS[name] ?? name} <code>${state}</code></span>
  </li>`;

/** One of the stable words, marked where it is not as it should be. */
const word = (text: string, good: boolean): Markup =>
  good ? html`<code>${text}</code>` : html`<code class="poor">${text}</code>`;

const rows = (entries: readonly (readonly [term: string, value: Part])[]): Markup =>
  html`<dl>
    ${entries.map(
      ([term, value]) =>
        html`<dt>${term}</dt>
          <dd>${value}</dd>`,
    )}
  </dl>`;

function identity({ version, mode, zone, instance, runtime, uptimeSeconds }: Status): Markup {
  return rows([
    ['Version', version],
    ['Mode', mode === 'dev' ? 'development' : mode],
    ['Zone', zone],
    ['Instance', html`<code>${instance}</code>`],
    ['Up', durationText(uptimeSeconds)],
    ['Runtime', `Node ${runtime.node}, OpenSSL ${runtime.openssl}`],
  ]);
}

export function factsSection(status: Status): Markup {
  return html`<section class="part">
    <h2>What it stands on</h2>
    <div class="facts">
      <div>${hsmFacts(status)} ${useFacts(status)}</div>
      <div>${databaseFacts(status)} ${auditFacts(status)} ${workerFacts(status)}</div>
      <div>${suites(status)} ${selfTests(status)}</div>
    </div>
  </section>`;
}

const CUSTODY: Readonly<Record<Status['hsm']['custody'], string>> = {
  'non-extractable': 'The PIN alone takes no private key out of the token.',
  extractableByPinHolder: 'Whoever holds the PIN can take private keys out of the token.',
  unknown: 'What the PIN alone can take out of the token has not been found out.',
};

function hsmFacts({ hsm }: Status): Markup {
  const { model, manufacturer, firmware, custody, queued, queueLimit } = hsm;
  const token = model === null ? 'not seen yet' : `${model}, ${manufacturer ?? ''}`;
  return html`<section>
    <h3>HSM</h3>
    ${rows([
      ['Token', token],
      ['Firmware', firmware ?? 'not seen yet'],
      ['State', word(hsm.state, hsm.state === 'ok')],
      [
        'Custody',
        html`${word(custody, custody === 'non-extractable')}<small>${CUSTODY[custody]}</small>`,
      ],
      ['Queue', `${queued} of ${numberText(queueLimit)} calls`],
    ])}
    ${tags(hsm.mechanisms)}
  </section>`;
}

function useFacts({ uses: { underWay, waiting, refused } }: Status): Markup {
  return html`<section>
    <h3>Uses</h3>
    ${rows([
      ['Under way', numberText(underWay)],
      ['Waiting', `${numberText(waiting)} for their turn`],
      ['Refused', `${numberText(refused)} since start, for lack of a turn in time`],
    ])}
  </section>`;
}

function databaseFacts({ database: { kind, version, tls, state } }: Status): Markup {
  return html`<section>
    <h3>Database</h3>
    ${rows([
      ['Server', `PostgreSQL ${version}`],
      ['Place', kind === 'embedded' ? 'embedded, for development' : 'external'],
      ['TLS', html`<code>${tls}</code>`],
      ['State', word(state, state === 'ok')],
    ])}
  </section>`;
}

function auditFacts({ audit, workers }: Status): Markup {
  const { uses, changes, waiting, failures, state, log, sinks } = audit;
  const lane = ({ number, durable }: Status['audit']['uses']) => {
    if (workers !== undefined) return `a lane each, ${numberText(durable)} since start`;
    return number === null ? 'none open' : `lane ${number}, ${numberText(durable)} since start`;
  };
  return html`<section>
    <h3>Audit log</h3>
    ${rows([
      ['Uses', lane(uses)],
      ['Changes', lane(changes)],
      ['Waiting', numberText(waiting)],
      ['Failed in a row', numberText(failures)],
      ['State', word(state, state === 'ok')],
      ['Sequenced', `${numberText(log.entries)}, ${numberText(log.unsequenced)} wait`],
      ['Log', word(log.state, log.state === 'ok')],
      ...sinks.map(sinkRow),
    ])}
  </section>`;
}

const sinkRow = ({ name, state, behind }: Status['audit']['sinks'][number]) =>
  [
    `Sink ${name}`,
    html`${word(state, state !== 'failing' && state !== 'left')}${
      behind === null ? NOTHING : html`<small>${numberText(behind)} entries behind</small>`
    }`,
  ] as const;

/** Nothing where one process serves alone. */
function workerFacts({ workers }: Status): Markup {
  if (workers === undefined) return NOTHING;
  const facts = ({ state, ready, connections, uptimeSeconds, restarts }: Worker) =>
    html`${word(state, ready)} ${numberText(connections)} open connections<small
        >up ${durationText(uptimeSeconds)}, replaced ${numberText(restarts)} times</small
      >`;
  return html`<section>
    <h3>Workers</h3>
    ${rows(workers.map((each) => [`Worker ${each.worker}`, facts(each)]))}
  </section>`;
}

type Worker = NonNullable<Status['workers']>[number];

function selfTests({ selfTests: passed }: Status): Markup {
  return html`<section>
    <h3>Self-tests</h3>
    <p>${passed.length} known answers passed at start.</p>
    ${tags(passed.map((name) => ({ name, available: true })))}
  </section>`;
}

function suites({ suites: all }: Status): Markup {
  const served = all.filter(({ available }) => available).length;
  return html`<section>
    <h3>Suites</h3>
    <p>This token serves ${served} of ${all.length}.</p>
    ${tags(all.map(({ id, available }) => ({ name: id, available })))}
  </section>`;
}

type Tag = Readonly<Status['hsm']['mechanisms'][number]>;

const tags = (all: readonly Tag[]): Markup =>
  html`<ul class="tags">
    ${all.map(({ name, available }) =>
      available
        ? html`<li>${name}</li>`
        : html`<li class="no">${name}<span class="unseen"> is not available</span></li>`,
    )}
  </ul>`;
