/**
 * The HTTP layer over the real keyring, access control and audit log; only HSM and database are in
 * memory. Single ports can be replaced, to make what the real ones do rarely.
 */
import { randomBytes } from 'node:crypto';
import { rm, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TokenAuthenticator } from '../../src/access/authenticate.ts';
import type { CertificateIssuerSettings } from '../../src/access/certificate-issuer.ts';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { LocalAccess } from '../../src/access/local-access.ts';
import { DevelopmentIssuer } from '../../src/access/development-issuer.ts';
import type { Authorizer } from '../../src/access/ports.ts';
import { LimitGate } from '../../src/http/limit-gate.ts';
import { LimitRefusals } from '../../src/http/limit-refusals.ts';
import { Limiter } from '../../src/limits/limiter.ts';
import type { LeaseStore } from '../../src/limits/ports.ts';
import type { UsageStore } from '../../src/limits/usage-ports.ts';
import type { LimitSettings } from '../../src/http/configured-limits.ts';
import type { AuditDraft } from '../../src/audit/ports.ts';
import type { Engine } from '../../src/crypto/engine.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import type { HttpDependencies, RequestReport } from '../../src/http/dependencies.ts';
import { openGovernance } from '../../src/governance/governance.ts';
import { Backups } from '../../src/governance/backups.ts';
import { LogKeys } from '../../src/governance/log-keys.ts';
import { logKeysInMemory } from './log-keys-in-memory.ts';
import { GovernedTrust } from '../../src/governance/trust.ts';
import type { TrustOptions } from '../../src/governance/trust.ts';
import { BEGINNING } from '../../src/keyring/event-ports.ts';
import type { Keyring } from '../../src/keyring/keyring.ts';
import { usualCustody } from '../../src/keyring/material.ts';
import type { DestructionRules } from '../../src/keyring/destruction.ts';
import { admits } from '../../src/keyring/suite-policy.ts';
import type { SuitePolicy } from '../../src/keyring/suite-policy.ts';
import type { Budgets } from '../../src/rotation/forecast.ts';
import { RotationPlanning } from '../../src/rotation/planning.ts';
import type { RotationScan } from '../../src/rotation/ports.ts';
import { RotationReading } from '../../src/rotation/reading.ts';
import type { ScheduleReads } from '../../src/rotation/scheduler-ports.ts';
import { createHttpServer } from '../../src/http/server.ts';
import type { HttpServer, HttpServerOptions } from '../../src/http/server.ts';
import { SuiteTimes } from '../../src/telemetry/suite-times.ts';
import { assertListed } from '../contract/observed.ts';
import { EMPTY_LOG, NO_LANES } from './log-in-memory.ts';
import { MemoryBackups } from './memory-backups.ts';
import { sampleStatus } from './sample-status.ts';
import { ANY_SUITE, INSTALLATION, openWorld } from '../keyring/world.ts';
import type { Instance, World } from '../keyring/world.ts';

/** No scheduler runs beside a store in memory. */
const NOTHING_SCHEDULED: ScheduleReads = {
  usesOf: () => Promise.resolve(0),
  notices: () => Promise.resolve([]),
  scheduleOf: () => Promise.resolve(null),
  runsOf: () => Promise.resolve([]),
  madeByRuns: () => Promise.resolve(new Set()),
  failing: () => Promise.resolve([]),
  late: () => Promise.resolve([]),
  done: () => Promise.resolve([]),
};

const NO_BUDGETS: Budgets = { perMinute: null, storageBytes: null, hsmMsPerDay: null };
/** A store in memory is not scanned. */
const NOTHING_SCANNED: RotationScan = {
  async *keys() {
    yield await Promise.resolve([]);
  },
};

export interface Service<W extends Instance = World> {
  readonly world: W;
  readonly deps: HttpDependencies;
  /** Of tokens and certificates, beside what was made on the machine. */
  readonly authenticator: TokenAuthenticator;
  readonly server: HttpServer;
  readonly limiter: Limiter;
  readonly url: string;
  readonly port: number;
  readonly reports: RequestReport[];
  /** Entries that were recorded or committed, as drafts. */
  readonly drafts: AuditDraft[];
  readonly anonymous: { readonly source: string; readonly outcome: string }[];
  token(role: string, ttlSeconds?: number, subject?: string): Promise<string>;
  call(role: string | null, method: string, path: string, init?: CallInit): Promise<Called>;
  stop(): Promise<void>;
}

export interface CallInit {
  readonly json?: unknown;
  readonly body?: string | Uint8Array<ArrayBuffer>;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Called {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Buffer;
  readonly text: string;
  /** Parsed when the answer is JSON. */
  readonly json: Record<string, unknown>;
}

export interface ServiceOptions {
  /** What anybody may read of the log. */
  readonly publicCheckpoint?: string;
  readonly lacks?: readonly string[];
  /** The native one unless told. */
  readonly engine?: Engine;
  readonly suites?: SuitePolicy;
  readonly destruction?: DestructionRules;
  readonly clock?: () => Date;
  readonly backupHorizonMs?: number;
  /** Keys for plans of rotations; none unless told. */
  readonly scan?: RotationScan;
  /** Of plans of rotations; none unless told. */
  readonly budgets?: Budgets;
  /** Of plans of rotations; what the keyring says unless told. */
  readonly refusal?: Keyring['suiteRefusal'];
  readonly certificates?: readonly CertificateIssuerSettings[];
  /** How stored issuers are fetched; over TLS, of `localhost` too, unless told. */
  readonly issuing?: Partial<TrustOptions>;
  readonly replace?: (deps: HttpDependencies & Deciding) => Partial<HttpDependencies & Deciding>;
  readonly options?: Partial<HttpServerOptions>;
  /** Of limits of the configuration; none unless told. */
  readonly rates?: Partial<LimitSettings>;
  /** Where allowance comes from; as much as is asked for unless told. */
  readonly leases?: LeaseStore;
  readonly usage?: UsageStore;
  /** Clock of limits. */
  readonly now?: () => number;
  /** What `/openapi.yaml` answers. */
  readonly document?: string;
}

/** Of the authorizer, what tests replace. */
interface Deciding {
  readonly authorizer: Pick<Authorizer, 'authorize' | 'refine' | 'may' | 'decide'>;
}

const accessBy = (authorizer: Deciding['authorizer']): HttpDependencies['access'] => ({
  in: () =>
    Promise.resolve(
      authorizer instanceof PolicyAuthorizer
        ? authorizer
        : {
            readsKeys: false,
            awaitsBody: () => false,
            limitsOf: () => [],
            explain: (...asked) => ({
              ...authorizer.decide(...asked),
              permits: [],
              forbids: [],
              errors: [],
              lasting: true,
            }),
            ...authorizer,
          },
    ),
});

export const NO_LIMITS: LimitSettings = {
  principalPerMinute: 0,
  adminPerMinute: 0,
  namespacePerMinute: 0,
  keyPerMinute: 0,
  principalUsesPerDay: 0,
  principalUsesPerMonth: 0,
  namespaceUsesPerDay: 0,
  namespaceUsesPerMonth: 0,
  keyUsesPerDay: 0,
  keyUsesPerMonth: 0,
};

/** Each bucket is always full. */
const NO_LEASES: LeaseStore = {
  lease: (requests) =>
    Promise.resolve(requests.map(({ wanted, burst }) => ({ granted: wanted, available: burst }))),
};

const noEvents: HttpDependencies['events'] = {
  page: () => Promise.resolve({ items: [], next: BEGINNING, more: false }),
  installation: INSTALLATION,
};

function watchAudit(world: Instance, drafts: AuditDraft[], anonymous: Service['anonymous']) {
  const { audit } = world;
  return {
    record: (draft, standing) => {
      drafts.push(draft);
      return audit.record(draft, standing);
    },
    change: (draft, commit) => audit.change(draft, commit),
    refusal: () => null,
    confirmed: () => Promise.resolve(),
    leaving: () => 'durable',
    countAnonymous: (source, outcome) => {
      anonymous.push({ source, outcome });
      audit.countAnonymous(source, outcome);
    },
    read: (id) => audit.read(id),
    list: (query) => audit.list(query),
    hash: (...values) => audit.hash(...values),
    reading: (draft, standing) => {
      drafts.push(draft);
      return audit.reading(draft, standing);
    },
  } satisfies HttpDependencies['audit'];
}

export async function openService(given: ServiceOptions = {}): Promise<Service> {
  const { lacks, engine, suites, destruction, clock } = given;
  const world = await openWorld({
    ...(lacks === undefined ? {} : { lacks }),
    ...(engine === undefined ? {} : { engine }),
    ...(suites === undefined ? {} : { suites }),
    ...(destruction === undefined ? {} : { destruction }),
    ...(clock === undefined ? {} : { clock }),
  });
  return openServiceOver(world, given);
}

/** Over a keyring that is open already, and is stopped with the service. */
export async function openServiceOver<W extends Instance>(
  world: W,
  given: ServiceOptions = {},
): Promise<Service<W>> {
  const folder = await mkdtemp(join(tmpdir(), 'twofold-http-'));
  const issuer = await DevelopmentIssuer.open({ folder, create: true });
  const { epoch, keyring } = world;
  const [drafts, anonymous, reports]: [AuditDraft[], Service['anonymous'], RequestReport[]] = [
    [],
    [],
    [],
  ];
  const issuing = { plainHttp: false, internal: ['localhost'], ...given.issuing };
  const governance = openGovernance(world.governing);
  const asksForCertificates = given.options?.http?.tls?.clients === 'request';
  const authenticator = await TokenAuthenticator.open({
    issuers: [issuer.settings],
    epoch,
    plainHttp: false,
    certificates: given.certificates,
    asksForCertificates,
    trust: new GovernedTrust(governance, issuing),
  });
  const local = new LocalAccess(governance.localTokens, epoch);
  const limiter = new Limiter({ store: given.leases ?? NO_LEASES, now: given.now });
  const authorizer = PolicyAuthorizer.of({ epoch });
  const audit = watchAudit(world, drafts, anonymous);
  const real: HttpDependencies = {
    authenticator: local.authenticator(authenticator),
    access: local.access(accessBy(authorizer)),
    keys: keyring.references,
    audit,
    log: world.log ?? EMPTY_LOG,
    logKeys: new LogKeys(world.governing, logKeysInMemory()),
    outsideLog: { publicCheckpoint: () => given.publicCheckpoint ?? null, witness: () => [] },
    lanes: world.lanes ?? NO_LANES,
    keyStates: keyring.states,
    epoch,
    use: keyring.use,
    read: keyring.read,
    published: keyring.published,
    manage: keyring.manage,
    imports: keyring.imports,
    operations: keyring.operations,
    orders: keyring.orders,
    rootRotations: world.rootRotations,
    backups: new Backups(new MemoryBackups()),
    lifecycle: keyring.lifecycle,
    policies: world.policies,
    rotation: new RotationReading({
      read: keyring.read,
      store: NOTHING_SCHEDULED,
      policies: world.policies,
      clock: () => new Date(),
    }),
    plans: new RotationPlanning({
      scan: given.scan ?? NOTHING_SCANNED,
      policies: world.policies,
      generation: keyring.generation,
      refusal: given.refusal ?? keyring.suiteRefusal,
      budgets: given.budgets ?? NO_BUDGETS,
      clock: given.clock ?? (() => new Date()),
    }),
    turns: keyring.turns,
    events: world.events ?? noEvents,
    governance,
    limits: {
      gate: new LimitGate({
        limiter,
        governance,
        keys: keyring.references,
        settings: { ...NO_LIMITS, ...given.rates },
      }),
      refusals: new LimitRefusals({ audit, epoch, onTrouble: () => undefined }),
      usage: given.usage ?? { usageOf: () => Promise.resolve({ keys: 0, versions: 0 }) },
    },
    issuers: {
      configured: authenticator.configured,
      certificates: authenticator.certificateIssuers,
      asksForCertificates,
      names: authenticator.names,
      ...issuing,
    },
    engine: given.engine ?? nativeEngine,
    token: {
      availability: ({ id }) =>
        (given.lacks ?? []).length > 0 && id === 'MLKEM768-X25519'
          ? { available: false, reason: 'The token lacks x25519.' }
          : { available: true, reason: null },
      custodyOf: (suite) => usualCustody(world.hsm, suite),
      refusal: (suite) => admits(given.suites ?? ANY_SUITE, suite, new Date()),
      custody: () => 'non-extractable',
      backupHorizonMs: given.backupHorizonMs ?? null,
      now: () => (given.clock?.() ?? new Date()).getTime(),
    },
    pageTokenKey: randomBytes(32),
    readiness: () => ({ ready: true, checks: [{ name: 'hsm', ready: true, state: 'ok' }] }),
    metrics: async () => ({ contentType: 'text/plain; version=0.0.4', body: 'up 1\n' }),
    status: () => sampleStatus(),
    report: (report) => reports.push(report),
    times: new SuiteTimes(),
  };
  const { authorizer: deciding, ...replaced } = given.replace?.({ ...real, authorizer }) ?? {};
  const access = deciding === undefined ? {} : { access: local.access(accessBy(deciding)) };
  const deps = { ...real, ...access, ...replaced };
  const server = createHttpServer(
    deps,
    { http: { host: '127.0.0.1', port: 0 }, drainMs: 1000, ...given.options },
    given.document ?? 'openapi: "3.1.0"\n',
  );
  const { http } = await server.listen().catch(async (error: unknown) => {
    await world.stop();
    await rm(folder, { recursive: true });
    throw error;
  });
  const tokens = new Map<string, Promise<string>>();
  const url = `http://127.0.0.1:${http.port}`;
  const token = async (role: string, ttlSeconds = 3600, subject?: string) => {
    const issued = await issuer.issueToken({ roles: [role], ttlSeconds, subject });
    return issued.token;
  };
  const cached = (role: string) => {
    const known = tokens.get(role) ?? token(role);
    tokens.set(role, known);
    return known;
  };
  return {
    world,
    deps,
    authenticator,
    server,
    limiter,
    url,
    port: http.port,
    reports,
    drafts,
    anonymous,
    token,
    call: async (role, method, path, init = {}) => {
      const headers: Record<string, string> = {
        ...(role === null ? {} : { authorization: `Bearer ${await cached(role)}` }),
        ...(init.json === undefined ? {} : { 'content-type': 'application/json' }),
        ...init.headers,
      };
      const body = init.json === undefined ? init.body : JSON.stringify(init.json);
      const sent = { method, headers, ...(body === undefined ? {} : { body }) };
      const answer = await called(await fetch(url + path, sent));
      const { status, bytes } = answer;
      const contentType = answer.headers.get('content-type');
      assertListed({ method, path, status, contentType, body: bytes });
      return answer;
    },
    stop: async () => {
      await server.close();
      await world.stop();
      await rm(folder, { recursive: true });
    },
  };
}

async function called(response: Response): Promise<Called> {
  const bytes = Buffer.from(await response.arrayBuffer());
  const text = bytes.toString();
  const isJson = /[/+]json/.test(response.headers.get('content-type') ?? '');
  const json = (isJson && text !== '' ? JSON.parse(text) : {}) as Record<string, unknown>;
  return { status: response.status, headers: response.headers, bytes, text, json };
}
