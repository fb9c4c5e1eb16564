/**
 * The service put together, in the order of start and stop that the design fixes:
 *
 *     data folder → self-tests → database → migrations → HSM → instance → root → audit lanes
 *     → orphans → keyring → listeners → ready
 *
 * A stop unwinds it: not ready, drain, last audit entries (they need the HSM's HMAC), lanes and
 * instance row, HSM sessions, pool, embedded database, lock of the folder.
 */
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Config } from '../config.ts';
import { MONITORING_ROUTES, ROUTES } from '../contract/routes.ts';
import { SENSITIVE_FIELDS } from '../contract/sensitive.ts';
import { createEngine } from '../crypto/combined-engine.ts';
import { SUITES } from '../crypto/suites.ts';
import { Admission } from '../http/admission.ts';
import { createHttpServer } from '../http/server.ts';
import type { HttpAddresses, HttpServer } from '../http/server.ts';
import type { HttpDependencies, Readiness } from '../http/dependencies.ts';
import { openKeyring } from '../keyring/keyring.ts';
import { openRoot } from '../keyring/root-opening.ts';
import { UsageCounters } from '../keyring/usage.ts';
import { createLogs } from '../telemetry/logs.ts';
import type { Logs } from '../telemetry/logs.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { SuiteTimes } from '../telemetry/suite-times.ts';
import { requestObserver } from '../telemetry/observation.ts';
import { arrive } from './arrival.ts';
import { openAuditLanes } from './audit-lanes.ts';
import { issuerFacts, openAuthenticator } from './authentication.ts';
import { findDatabase, openStoreOf, prepareDatabase } from './database.ts';
import type { ServedStore } from './database.ts';
import { openAccess } from './access.ts';
import { backupCheck } from './backups.ts';
import { openDevice } from './device.ts';
import type { Device } from './device.ts';
import { expireOld } from './expiry.ts';
import {
  fencedAuditStore,
  fencedKeyStore,
  fencedOperationStore,
  fencedUseStore,
} from './fenced-store.ts';
import { measuredHsm, registerFigures } from './figures.ts';
import { Incarnation } from './incarnation.ts';
import { accessCheck, localAccess } from './governing.ts';
import { logCheck } from './sequenced-log.ts';
import { lateParts } from './late-parts.ts';
import { checkLogOutside, outsideLog } from './log-outside.ts';
import type { LateParts } from './late-parts.ts';
import { Lapse } from './lapse.ts';
import { openLimits } from './limiting.ts';
import { listenersOf, readIdentities, urlsOf } from './listeners.ts';
import { removeOwnOrphans } from './orphans.ts';
import { openOwnEvents } from './own-events.ts';
import { whenReachable } from './patience.ts';
import { Reloads } from './reloads.ts';
import { watchReplication } from './replication.ts';
import type { ReplicationWatch } from './replication.ts';
import type { OnWaiting, RunningService } from './running.ts';
import { statusReader, watchActivity } from './status.ts';
import type { StartFacts } from './status.ts';
import { destructionRulesOf } from './destruction-rules.ts';
import { suitePolicyOf } from './suite-policy.ts';
import { policyLimitsOf } from './rotation-limits.ts';
import { selfTest, tokenFacts } from './token-facts.ts';
import { namingZones } from './token-zones.ts';
import { Unwinding } from './unwinding.ts';
import { VERSION } from './version.ts';
import type { Membership } from './workers/membership.ts';

/** How often a token that is away is looked at while the service waits for it. */
const HSM_POLL_MS = 200;
/** How often rows that were found altered are read again: a repair ends the red without a restart. */
const RECHECK_MS = 5_000;

export class Service {
  readonly #config: Config;
  readonly #hastened: AbortSignal;
  /** Null where it is alone. */
  readonly #membership: Membership | null;
  readonly #logs: Logs;
  readonly #unwinding: Unwinding;
  readonly #metrics: Metrics;
  readonly #engine = createEngine();
  #state: 'starting' | 'complete' | 'stopping' = 'starting';
  /** The start under way, or over; never rejects. */
  #startOver: Promise<void> = Promise.resolve();
  #stopped: Promise<void> | undefined;
  readonly lapse = new Lapse();
  #reloads: Reloads | undefined;
  #limits: HttpDependencies['limits'] | undefined;
  #http: HttpServer | undefined;
  #replication: ReplicationWatch | undefined;

  /**
   * Once `hastened` aborts, a stop waits for nothing that it need not wait for. Of several workers each
   * has a `membership`: it accepts no connections itself, and finds its database prepared.
   */
  constructor(config: Config, hastened: AbortSignal, membership: Membership | null = null) {
    this.#config = config;
    this.#hastened = hastened;
    this.#membership = membership;
    this.#logs = createLogs({
      level: config.log.level,
      sensitive: SENSITIVE_FIELDS,
      ...(config.mode === 'dev' ? { destination: join(config.dataDir, 'twofold.log') } : {}),
    });
    const log = this.#logs.component('service');
    this.#unwinding = new Unwinding((step, err) => {
      log.error({ step, err }, 'a step of the stop failed');
    });
    const routes = [...ROUTES, ...MONITORING_ROUTES].map(({ id }) => id);
    const metrics = createMetrics({ version: VERSION, routes, worker: membership?.worker });
    this.#unwinding.add('metrics', () => metrics.close());
    this.#unwinding.add('engine', () => this.#engine.close());
    this.#metrics = metrics;
  }

  /**
   * Resolves when ready. A start that fails has undone what it did.
   *
   * @throws TwofoldError shutting_down when `stop` came first
   */
  async start(onWaiting: OnWaiting): Promise<RunningService> {
    const starting = this.#start(onWaiting);
    this.#startOver = starting.then(nothing, nothing);
    try {
      return await starting;
    } catch (error) {
      const log = this.#logs.component('service');
      if (this.#unwinding.begun) log.info({ err: error }, 'the start was cut short by a stop');
      else log.fatal({ err: error }, 'the service could not start');
      await this.stop();
      throw error;
    }
  }

  /** Reads certificates, passwords, PIN and key sets again now; what a start has not come to it reads itself. */
  async reload(): Promise<void> {
    await this.#reloads?.reload();
  }

  /** Orderly, and once; a start under way gives up at its next step. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    const served = this.#state === 'complete';
    this.#state = 'stopping';
    this.#unwinding.begin();
    const patience = served ? this.#notReady() : this.#startOver;
    await Promise.race([patience, aborted(this.#hastened)]);
    await this.#unwinding.unwind();
    // What a start made while it was undone beneath it.
    await this.#startOver;
    await this.#unwinding.unwind();
    this.#logs.flush();
  }

  /** Load balancers see /readyz turn before the listeners close, and clients that keep connections let go. */
  async #notReady(): Promise<void> {
    this.#http?.part();
    await sleep(this.#config.stop.waitMs, undefined, { signal: this.#hastened }).catch(nothing);
  }

  async #start(onWaiting: OnWaiting): Promise<RunningService> {
    const selfTests = await this.#selfTest();
    this.#unwinding.check();
    const store = await this.#openDatabase();
    this.#unwinding.check();
    const device = await this.#openDevice(store);
    const incarnation = await this.#openIncarnation(store);
    this.#followEpoch(store, incarnation);
    expireOld(store, this.#config, this.#logs.component('database'), this.#unwinding);
    const late = lateParts(incarnation);
    const log = this.#logs.component('reload');
    const reloads = new Reloads(log, () => late.audit.current, this.#unwinding);
    this.#reloads = reloads;
    reloads.watchPassword(this.#config, store);
    reloads.watchPin(device.pinFile);
    const database = await whenReachable(() => store.serverVersion(), this.#unwinding);
    const facts = { selfTests, database };
    const http = await this.#openHttp({ store, device, incarnation, late, reloads }, facts);
    this.#http = http;
    let listening: Promise<HttpAddresses> | undefined;
    const listen = () => (listening ??= http.listen());
    if (!device.hsm.status().ready) {
      await listen();
      onWaiting(device.hsm.status());
      await this.#untilReady(device);
    }
    await this.#openKeyring(store, device, incarnation, late);
    // Undone first: requests under way are answered while everything behind them still works.
    this.#unwinding.add('open requests', () => http.close());
    const addresses = await listen();
    this.#unwinding.check();
    this.#state = 'complete';
    const token = this.#tokenFacts(device);
    return {
      ...urlsOf(addresses, this.#config),
      hsm: device.hsm.status(),
      suites: Object.values(SUITES).map((suite) => ({
        id: suite.id,
        reason: token.availability(suite).reason,
      })),
      selfTests: selfTests.length,
      instance: incarnation.id,
    };
  }

  async #selfTest(): Promise<readonly string[]> {
    const begun = performance.now();
    const passed = await selfTest(this.#engine);
    const milliseconds = Math.round(performance.now() - begun);
    const log = this.#logs.component('service');
    log.info({ passed: passed.length, milliseconds }, 'the known answers passed');
    return passed;
  }

  async #openDatabase(): Promise<ServedStore> {
    const log = this.#logs.component('database');
    const urls =
      this.#membership === null
        ? await prepareDatabase(this.#config, VERSION, log, this.#unwinding)
        : findDatabase(this.#config);
    this.#unwinding.check();
    const store = await openStoreOf(this.#config, urls, log, this.#unwinding, () => {
      this.#reloads?.changed({ what: 'database.password' }, 'the database took the new password');
    });
    this.#replication = await watchReplication(this.#config, store, log, this.#unwinding);
    return store;
  }

  /** A database that holds a root belongs to the token of that root: no other is made beside it. */
  async #openDevice(store: ServedStore): Promise<Device> {
    const generations = await whenReachable(() => store.roots.generations(), this.#unwinding);
    const rooted = generations.some(({ state }) => state !== 'intended');
    const first = this.#membership?.first ?? true;
    const log = this.#logs.component('hsm');
    return openDevice(this.#config, log, this.#unwinding, first && !rooted);
  }

  /** Learns changes of other instances at once; what a lost notice costs is a heartbeat's delay. */
  #followEpoch(store: ServedStore, { epoch, refresh }: Incarnation): void {
    const log = this.#logs.component('instance');
    const listener = store.listen((seen) => {
      if (seen <= epoch.current) return;
      refresh().catch((err: unknown) => log.warn({ err }, 'changes could not be read'));
    });
    this.#unwinding.add('epoch listener', () => listener.close());
  }

  #openIncarnation(store: ServedStore): Promise<Incarnation> {
    const log = this.#logs.component('instance');
    return Incarnation.open(
      {
        instances: store.instances,
        changes: store.audit,
        dataDir: this.#config.dataDir,
        zone: this.#config.zone.name,
        graceMs: this.#config.zone.graceMs,
        worker: this.#membership?.worker,
        first: this.#membership?.first,
        onTrouble: (err) => log.warn({ err }, 'a heartbeat failed'),
        onEnd: this.lapse.watch(log),
      },
      this.#unwinding,
    );
  }

  async #openHttp(
    { store, device, incarnation, late, reloads }: HttpParts,
    facts: StartFacts,
  ): Promise<HttpServer> {
    const metrics = this.#metrics;
    const { epoch } = incarnation;
    const log = this.#logs.component('limits');
    const limiting = { config: this.#config, store, late, epoch, metrics, log };
    const limits = (this.#limits = openLimits(limiting, this.#unwinding));
    const authenticator = await openAuthenticator(
      {
        config: this.#config,
        epoch,
        reloads,
        log: this.#logs.component('access'),
        governance: late.governance.port,
        first: (this.#membership?.worker ?? 1) === 1,
      },
      this.#unwinding,
    );
    reloads.watchIssuers(authenticator, this.#unwinding);
    const local = localAccess(late, epoch);
    const access = openAccess(late, epoch);
    const readiness = () => this.#readiness(device, incarnation, late);
    const admission = new Admission({ deadlineMs: this.#config.hsm.deadlineMs });
    registerFigures(metrics, {
      ...{ hsm: device.hsm, admission },
      authenticator,
      access,
      readiness,
      audit: () => late.audit.current,
      lease: incarnation.lease,
      keyring: () => late.keyring,
      log: () => late.log?.facts() ?? null,
      sinks: () => late.sinks?.facts() ?? [],
      ...{ reloads, backups: () => late.backups, standby: store.standbyAnswers },
    });
    const token = this.#tokenFacts(device);
    const activity = watchActivity(device.hsm, this.#unwinding);
    const membership = this.#membership;
    const status = statusReader(this.#config, facts, {
      ...{ hsm: device.hsm, admission },
      incarnation,
      readiness,
      audit: () => late.audit.current,
      log: () => late.log,
      sinks: () => late.sinks?.facts() ?? [],
      ...{ token, activity },
    });
    const deps: HttpDependencies = {
      authenticator: local.authenticator(authenticator),
      access: local.access(access),
      keys: late.references.port,
      epoch,
      audit: late.audit,
      log: late.logReader.port,
      logKeys: late.logKeys.port,
      outsideLog: outsideLog(this.#config, late),
      lanes: late.lanes.port,
      keyStates: late.keyStates.port,
      use: late.use.port,
      read: late.read.port,
      published: late.published.port,
      manage: late.manage.port,
      imports: late.imports.port,
      operations: late.operations.port,
      orders: late.orders.port,
      rootRotations: late.rootRotations.port,
      backups: late.askedBackups.port,
      lifecycle: late.lifecycle.port,
      policies: late.policies.port,
      rotation: late.rotation.port,
      plans: late.plans.port,
      turns: late.turns.port,
      events: late.events.port,
      governance: late.governance.port,
      issuers: issuerFacts(this.#config, authenticator),
      limits,
      pageTokenKey: late.pageTokenKey,
      engine: this.#engine,
      token,
      readiness: () => membership?.readiness(readiness()) ?? readiness(),
      metrics: () => membership?.metrics() ?? metrics.renderMetrics(),
      status: () => membership?.status() ?? status(),
      parting: membership?.parting,
      times: new SuiteTimes(),
      report: requestObserver(this.#logs.component('http'), metrics, activity),
    };
    const identities = readIdentities(this.#config);
    const listeners = { ...listenersOf(this.#config, membership, identities), admission };
    const http = createHttpServer(deps, listeners);
    reloads.watchTls(this.#config, identities, http);
    this.#unwinding.add('listeners', () => http.close());
    if (membership !== null) {
      const figures = () => metrics.figures();
      const end = membership.share({ instance: incarnation.id, readiness, figures, status });
      this.#unwinding.add('membership', end);
    }
    return http;
  }

  async #untilReady({ hsm }: Device): Promise<void> {
    while (!hsm.status().ready) {
      await sleep(HSM_POLL_MS);
      this.#unwinding.check();
    }
  }

  async #openKeyring(
    store: ServedStore,
    { hsm: pool, ceremony }: Device,
    incarnation: Incarnation,
    late: LateParts,
  ): Promise<void> {
    const { epoch, refresh, id: instance, assertOpen } = incarnation;
    const zone = this.#config.zone.name;
    const { instances } = store;
    const hsm = namingZones(measuredHsm(pool, this.#metrics), { zone, instances });
    const { serial } = pool.status().token ?? {};
    if (serial !== undefined) await instances.announceToken(instance, serial);
    const keys = fencedKeyStore(store.keys, assertOpen);
    const entries = fencedAuditStore(store.audit, assertOpen);
    const uses = new UsageCounters(keys);
    const mayMake = this.#membership?.first ?? true;
    const root = await openRoot(hsm, store.roots, uses, mayMake ? ceremony : null);
    this.#unwinding.check();
    const checking = this.#logs.component('log');
    const givenUp = await checkLogOutside({ config: this.#config, store, root, log: checking });
    this.#unwinding.check();
    const { audit, confirmations } = await openAuditLanes(
      {
        ...{ config: this.#config, store, entries, root, incarnation },
        ...{ worker: this.#membership?.worker ?? 1, first: mayMake },
        log: this.#logs.component('audit'),
      },
      this.#unwinding,
    );
    const events = openOwnEvents(pool, audit, this.#logs.component('audit'), this.#unwinding);
    await givenUp.settle((...entry) => audit.recordOwn(...entry));
    this.#unwinding.add('counts of refusals', () => this.#limits?.refusals.stop());
    await removeOwnOrphans(store, hsm, root, audit, this.#logs.component('hsm'));
    const log = this.#logs.component('keyring');
    const operations = fencedOperationStore(store.operations, assertOpen);
    const keyring = openKeyring({
      hsm,
      engine: this.#engine,
      root,
      uses,
      store: keys,
      operations,
      instances: incarnation,
      audit,
      ...{ epoch, refreshEpoch: refresh, instance },
      versionUses: fencedUseStore(store.uses, assertOpen),
      onUsesTrouble: (err) => log.warn({ err }, 'uses of versions could not be written'),
      suites: suitePolicyOf(this.#config),
      destruction: destructionRulesOf(this.#config),
      rotationPolicies: (name) => late.policies.port.current(name),
      policyLimits: policyLimitsOf(this.#config),
      policyPreview: (...views) => late.policyPreviews.port.ofKey(...views),
      quotas: async (name) => (await late.governance.port.limits.inForce(name)).quotas,
    });
    // After the requests, before the instance's row is closed.
    this.#unwinding.add('sums of uses', () => keyring.ledger.stop());
    this.#unwinding.add('keyring', () => keyring.close());
    late.keyring = keyring;
    const recheck = setInterval(() => void keyring.integrity.recheck(), RECHECK_MS).unref();
    this.#unwinding.add('integrity recheck', () => {
      clearInterval(recheck);
      return keyring.integrity.close();
    });
    const config = this.#config;
    const made = { engine: this.#engine, logs: this.#logs, limits: () => this.#limits };
    const worker = this.#membership?.worker ?? 1;
    const own = { root, audit, confirmations, incarnation, events, metrics: this.#metrics };
    const parts = { config, store, keys, operations, keyring, hsm, worker, ...made, ...own };
    await arrive(parts, late, this.#unwinding);
  }

  #tokenFacts(device: Device): HttpDependencies['token'] {
    return tokenFacts(
      device,
      this.#engine,
      suitePolicyOf(this.#config),
      destructionRulesOf(this.#config),
    );
  }

  #readiness({ hsm }: Device, incarnation: Incarnation, late: LateParts): Readiness {
    const { ready, state } = hsm.status();
    const { ok: audit = false, spooled = 0 } = late.audit.current?.health() ?? {};
    const whole = (late.keyring?.integrity.altered ?? 0) === 0;
    // What is refused is said, and not waited for: the former goes on.
    const secrets = (this.#reloads?.refused.length ?? 0) === 0 ? 'ok' : 'refused';
    const checks = [
      { name: 'hsm', ready, state },
      { name: 'database', ready: incarnation.alive, state: incarnation.state },
      ...(this.#replication === undefined ? [] : [this.#replication.check]),
      { name: 'audit', ready: audit, state: !audit ? 'not-durable' : spooled > 0 ? 'spool' : 'ok' },
      logCheck(late),
      backupCheck(late),
      { name: 'integrity', ready: whole, state: whole ? 'ok' : 'rows-altered' },
      { name: 'secrets', ready: true, state: secrets },
      accessCheck(late),
      { name: 'service', ready: this.#state === 'complete', state: this.#state },
    ];
    return { ready: checks.every((check) => check.ready), checks };
  }
}

interface HttpParts {
  readonly store: ServedStore;
  readonly device: Device;
  readonly incarnation: Incarnation;
  readonly late: LateParts;
  readonly reloads: Reloads;
}

const nothing = (): void => undefined;

const aborted = async (signal: AbortSignal): Promise<void> => {
  if (!signal.aborted) await once(signal, 'abort');
};
