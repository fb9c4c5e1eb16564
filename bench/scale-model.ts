/**
 * What saturates first at ten zones, 100 instances, 10^8 keys and 10^5 requests a second, from figures that
 * were measured: each resource's capacity and demand in one unit, and what the design does about it.
 *
 * Every line is linear in the requests, so it says where to look, not what a queue will do: nothing here
 * knows of waiting, of the network, or of caches that do not fit.
 */
import { rawRate, table } from './report.ts';
import type { BenchReport } from './report.ts';

/**
 * What is served, and by what; all of it may be changed on the command line. `entriesPerSecond`, `walBytesPerEntry` and
 * `bytesPerEntry` were measured (`npm run bench -- sequencer --rate 60000`: ARCHITECTURE.md, "Seen and measured"), the
 * others are assumed of a site.
 */
export interface Scale {
  readonly zones: number;
  readonly instances: number;
  readonly keys: number;
  /** Of all zones. */
  readonly requestsPerSecond: number;
  /** Of an instance. */
  readonly cores: number;
  /** Of the primary of the database. */
  readonly databaseCores: number;
  /** Share of the requests that use a hybrid key; the others use `A256GCM`. */
  readonly hybridShare: number;
  /** What a zone's HSM does, as a multiple of the measured token's rate in one process. */
  readonly hsmFactor: number;
  /** WAL that an entry of the audit log writes, its index included, bytes (measured). */
  readonly walBytesPerEntry: number;
  /** What an entry takes of the database: table, indexes and tiles, bytes (measured). */
  readonly bytesPerEntry: number;
  /** For so long an entry stays in the database before it goes to cold storage. */
  readonly daysOfEntries: number;
  /** What the log of the primary and each of its standbys take, bytes a second. */
  readonly walBytesPerSecond: number;
  /** Entries that the database and the one sequencer took together, a second (measured on two cores). */
  readonly entriesPerSecond: number;
  /** Of a key with one version, indexes included. */
  readonly bytesPerKey: number;
  readonly storageBytes: number;
  /** Entries of one commit under load. */
  readonly entriesPerCommit: number;
  /** Commits a second that the primary takes with a synchronous standby. */
  readonly commitsPerSecond: number;
  /** Servers that the primary sends its log to: one in each other zone. */
  readonly standbys: number;
  /** What leaves the primary's host, bytes a second. */
  readonly networkBytesPerSecond: number;
  /** Connections of one instance, and what the primary allows. */
  readonly connectionsPerInstance: number;
  readonly databaseConnections: number;
}

export const WANTED: Scale = {
  zones: 10,
  instances: 100,
  keys: 1e8,
  requestsPerSecond: 1e5,
  cores: 8,
  databaseCores: 32,
  hybridShare: 0.5,
  hsmFactor: 1,
  walBytesPerEntry: 1_240,
  bytesPerEntry: 977,
  daysOfEntries: 1,
  walBytesPerSecond: 200e6,
  entriesPerSecond: 42_000,
  bytesPerKey: 5_000,
  storageBytes: 10e12,
  entriesPerCommit: 50,
  commitsPerSecond: 4_000,
  standbys: 9,
  networkBytesPerSecond: 1.25e9,
  connectionsPerInstance: 11,
  databaseConnections: 1_000,
};

export interface Resource {
  readonly what: string;
  readonly unit: string;
  readonly demand: number;
  readonly capacity: number;
  /** Demand over capacity; 1 is where it saturates. */
  readonly use: number;
  /** What the demand grows with. */
  readonly per: 'requests' | 'instances' | 'keys';
  /** What the design does about it. */
  readonly answer: string;
}

const DAY_S = 86_400;

const resource = (
  what: string,
  unit: string,
  [demand, capacity]: readonly [number, number],
  answer: string,
  per: Resource['per'] = 'requests',
): Resource => ({ what, unit, demand, capacity, use: demand / capacity, per, answer });

/** Microseconds of processor time that one unwrap takes, of the service and of the database. */
interface Costs {
  readonly server: number;
  readonly database: number;
}

/** What the model takes from a run of the benchmark. */
export interface Figures {
  readonly hybrid: Costs;
  readonly symmetric: Costs;
  /** P-256 derivations of the token a second, in one process. */
  readonly derives: number;
  /** AES-GCM decryptions of the token a second, in one process. */
  readonly opens: number;
}

function costsOf(report: BenchReport, operation: string): Costs {
  const found = report.measurements.find(
    (each) => each.operation === operation && each.inFlight === 16 && each.placement === 'shared',
  );
  if (found === undefined) throw new Error(`no measurement of ${operation} with 16 in flight`);
  return found.cpu;
}

/** @throws Error where the report lacks a figure that is needed */
export const figuresOf = (report: BenchReport): Figures => ({
  hybrid: costsOf(report, 'hybrid unwrap'),
  symmetric: costsOf(report, 'A256GCM unwrap'),
  derives: rawRate(report.raw, 'derive P-256'),
  opens: rawRate(report.raw, 'AES-GCM decrypt'),
});

/**
 * The same from the page that tells of a run (README.md, "Speed").
 * @throws Error where the page lacks a figure that is needed
 */
export function publishedFigures(page: string): Figures {
  const found = (what: string, pattern: RegExp): readonly number[] => {
    const match = pattern.exec(page);
    if (match === null) throw new Error(`the page does not say ${what}`);
    return match.slice(1).map((text) => Number(text.replaceAll(',', '')));
  };
  const costs = (operation: string): Costs => {
    const cells = String.raw`^\| ${operation} +\|(?:[^|\n]*\|){5} *([\d,]+) *\| *([\d,]+) *\|`;
    const [server = NaN, database = NaN] = found(operation, new RegExp(cells, 'mu'));
    return { server, database };
  };
  const [derives = NaN] = found('derivations', /([\d,]+) P-256\s+derivations a second/u);
  const [opens = NaN] = found('decryptions', /AES-GCM\s+encryptions and ([\d,]+) decryptions/u);
  return { hybrid: costs('hybrid unwrap'), symmetric: costs('A256GCM unwrap'), derives, opens };
}

/** @returns the resources, the one that saturates first before the others */
export function modelOf(figures: Figures, scale: Scale): readonly Resource[] {
  const { hybrid, symmetric } = figures;
  const { requestsPerSecond: requests, hybridShare, zones, instances } = scale;
  const mixed = (of: (each: Costs) => number): number =>
    hybridShare * of(hybrid) + (1 - hybridShare) * of(symmetric);
  const seconds = (microseconds: number): number => (requests * microseconds) / 1e6;
  const derived = (requests * hybridShare) / zones;
  const derives = figures.derives * scale.hsmFactor;
  const opened = (requests * (1 - hybridShare)) / zones;
  const opens = figures.opens * scale.hsmFactor;
  const walBytes = requests * scale.walBytesPerEntry;
  const keyBytes = scale.keys * scale.bytesPerKey;
  return [
    resource(
      'processors of the instances',
      'cores',
      [seconds(mixed(({ server }) => server)), instances * scale.cores],
      'stateless: more instances, and --workers in each',
    ),
    resource(
      'HSM of a zone',
      's of one HSM a second',
      [derived / derives + opened / opens, 1],
      'an HSM cluster in each zone, or more zones: wrapped keys are usable in every one; no batch saves a derivation',
    ),
    resource(
      'processors of the primary',
      'cores',
      [seconds(mixed(({ database }) => database)), scale.databaseCores],
      'group commit: fuller batches cost less an entry; /batch makes one entry of 1,000 items',
    ),
    resource(
      'order of the audit log',
      'entries/s',
      [requests, scale.entriesPerSecond],
      '/batch makes one entry of 1,000 items; one log has one sequencer, so beyond that installations of their own',
    ),
    resource(
      'commits of the primary',
      'commits/s',
      [requests / scale.entriesPerCommit, scale.commitsPerSecond],
      'a lane has one append in flight, so batches grow with the load by themselves',
    ),
    resource(
      'write-ahead log',
      'bytes/s',
      [walBytes, scale.walBytesPerSecond],
      '/batch makes one entry of 1,000 items',
    ),
    resource(
      'network of the primary',
      'bytes/s',
      [walBytes * scale.standbys, scale.networkBytesPerSecond],
      'three zones with a server are enough: instances need no standby near, and any other zone reaches the primary',
    ),
    resource(
      'storage of the entries',
      'bytes',
      [
        requests * scale.bytesPerEntry * scale.daysOfEntries * DAY_S,
        // What the keys leave of it.
        Math.max(1, scale.storageBytes - keyBytes),
      ],
      'audit archive moves old ones to cold storage; fewer by /batch',
    ),
    resource(
      'connections of the primary',
      'connections',
      [instances * scale.connectionsPerInstance, scale.databaseConnections],
      'database.poolSize, and max_connections; no pooler in between, as session settings must hold',
      'instances',
    ),
    resource(
      'storage of the keys',
      'bytes',
      [keyBytes, scale.storageBytes],
      'rows are found by their primary keys; caches are bounded by their number of entries',
      'keys',
    ),
  ].toSorted((a, b) => b.use - a.use);
}

const figure = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3);

/** The requests a second at which the first resource that grows with them saturates; null where none does. */
export function mostRequests(scale: Scale, resources: readonly Resource[]): number | null {
  const [first] = resources.filter(({ per }) => per === 'requests');
  return first === undefined ? null : scale.requestsPerSecond / first.use;
}

/** What was measured, and goes into the table below it. */
const renderFigures = ({ hybrid, symmetric, derives, opens }: Figures): string =>
  `Measured: a hybrid unwrap takes ${figure(hybrid.server)} µs of the service and ${figure(hybrid.database)} µs of the ` +
  `database, one of A256GCM ${figure(symmetric.server)} and ${figure(symmetric.database)} µs; the token derives ` +
  `${figure(derives)} times a second and decrypts ${figure(opens)} times.`;

export function renderModel(figures: Figures, scale: Scale): string {
  const resources = modelOf(figures, scale);
  const [first] = resources;
  const most = mostRequests(scale, resources);
  return [
    renderFigures(figures),
    `${figure(scale.requestsPerSecond)} requests/s, ${String(scale.zones)} zones, ` +
      `${String(scale.instances)} instances, ${figure(scale.keys)} keys`,
    table(
      ['resource', 'demand', 'capacity', 'unit', 'used', 'grows with', 'what is done about it'],
      resources.map(({ what, demand, capacity, unit, use, per, answer }) => [
        what,
        figure(demand),
        figure(capacity),
        unit,
        `${figure(use * 100)} %`,
        per,
        answer,
      ]),
    ),
    `First to saturate: ${first?.what ?? 'nothing'}, at ${figure((first?.use ?? 0) * 100)} %. ` +
      `Most requests a second: ${most === null ? 'unknown' : figure(most)}.`,
  ].join('\n\n');
}

/** `NAME=NUMBER …` over the wanted scale. @throws Error for another name or what is no positive number */
export function scaleOf(words: readonly string[]): Scale {
  const changed: Record<string, number> = { ...WANTED };
  for (const word of words) {
    const [name = '', text = ''] = word.split('=');
    const value = Number(text);
    const isShare = name === 'hybridShare';
    const fits = isShare ? text !== '' && value >= 0 && value <= 1 : value > 0;
    if (!Object.hasOwn(WANTED, name) || !Number.isFinite(value) || !fits) {
      throw new Error(`${word} is none of ${Object.keys(WANTED).join(', ')} with a number`);
    }
    changed[name] = value;
  }
  return { ...WANTED, ...changed };
}
