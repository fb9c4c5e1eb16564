/** What a chaos run does to the zones, and how it takes it back. */
import { readdirSync, renameSync } from 'node:fs';

import { ZONES } from '../cluster.ts';
import type { Cluster, Zone } from '../cluster.ts';
import type { Site, ZoneService } from '../zone-service.ts';

export interface Scene {
  readonly cluster: Cluster;
  readonly site: Site;
  readonly service: (zone: Zone) => ZoneService;
  readonly random: () => number;
}

/** Within the life of the load's access token (`Site.token`). */
const [BACK_S, AHEAD_S] = [-3_600, 3_600];

export type FaultKind = 'kill' | 'stop' | 'cut' | 'odd';

/** A fault that was made. */
export interface Made {
  /** Zones of which the Twofold itself is struck: others are to go on. */
  readonly zones: readonly Zone[];
  readonly end: () => Promise<void> | void;
}

export interface Fault {
  readonly name: string;
  readonly kind: FaultKind;
  readonly strike: (scene: Scene) => Promise<Made>;
}

const any = ({ random }: Scene): Zone => ZONES[Math.floor(random() * ZONES.length)] ?? 1;
const others = (zone: Zone): readonly Zone[] => ZONES.filter((one) => one !== zone);

const stoppedZone = ({ cluster }: Scene, zone: Zone): Made => {
  cluster.signal(zone, 'SIGSTOP');
  return { zones: [zone], end: () => cluster.signal(zone, 'SIGCONT') };
};

const stoppedPostgres = ({ cluster }: Scene, zones: readonly Zone[]): Made => {
  for (const zone of zones) cluster.signalPostgres(zone, 'SIGSTOP');
  return {
    zones: [],
    end: () => {
      for (const zone of zones) cluster.signalPostgres(zone, 'SIGCONT');
    },
  };
};

const stoppedPart = (
  { cluster }: Scene,
  part: 'etcd' | 'patroni',
  zones: readonly Zone[],
): Made => {
  for (const zone of zones) cluster.signalPart(zone, part, 'SIGSTOP');
  return {
    zones: [],
    end: () => {
      for (const zone of zones) cluster.signalPart(zone, part, 'SIGCONT');
    },
  };
};

const killedPart = ({ cluster }: Scene, part: 'etcd' | 'patroni', zones: readonly Zone[]): Made => {
  for (const zone of zones) cluster.signalPart(zone, part, 'SIGKILL');
  return {
    zones: [],
    end: () => {
      for (const zone of zones) cluster.start(zone, part);
    },
  };
};

async function killedZone(scene: Scene, zone: Zone): Promise<Made> {
  scene.cluster.signal(zone, 'SIGKILL');
  await scene.service(zone).kill();
  return {
    zones: [zone],
    end: async () => {
      scene.cluster.restore(zone);
      await scene.service(zone).start();
    },
  };
}

const cutOff = ({ cluster }: Scene, zone: Zone, peers?: readonly Zone[]): Made => {
  cluster.cut(zone, peers);
  return { zones: [zone], end: () => cluster.heal(zone) };
};

const KILLS: readonly Fault[] = [
  {
    name: 'kill an instance',
    kind: 'kill',
    strike: async (scene) => {
      const zone = any(scene);
      await scene.service(zone).kill();
      return { zones: [zone], end: () => scene.service(zone).start() };
    },
  },
  {
    name: "kill the primary's PostgreSQL",
    kind: 'kill',
    strike: async ({ cluster }) => {
      cluster.killPostgres(await cluster.leader());
      // Patroni sees to it.
      return { zones: [], end: () => undefined };
    },
  },
  {
    name: "kill the primary's Patroni",
    kind: 'kill',
    strike: async (scene) => killedPart(scene, 'patroni', [await scene.cluster.leader()]),
  },
  {
    name: 'kill an etcd member',
    kind: 'kill',
    strike: async (scene) => killedPart(scene, 'etcd', [any(scene)]),
  },
  {
    name: 'kill all etcd members',
    kind: 'kill',
    strike: async (scene) => killedPart(scene, 'etcd', ZONES),
  },
  { name: 'kill a zone', kind: 'kill', strike: async (scene) => killedZone(scene, any(scene)) },
  {
    name: "kill the primary's zone",
    kind: 'kill',
    strike: async (scene) => killedZone(scene, await scene.cluster.leader()),
  },
];

const STOPS: readonly Fault[] = [
  {
    name: 'stop an instance',
    kind: 'stop',
    strike: async (scene) => {
      const zone = any(scene);
      const service = scene.service(zone);
      service.signal('SIGSTOP');
      return { zones: [zone], end: () => service.signal('SIGCONT') };
    },
  },
  {
    name: "stop the primary's PostgreSQL",
    kind: 'stop',
    strike: async (scene) => stoppedPostgres(scene, [await scene.cluster.leader()]),
  },
  {
    name: "stop the primary's Patroni alone",
    kind: 'stop',
    strike: async (scene) => stoppedPart(scene, 'patroni', [await scene.cluster.leader()]),
  },
  {
    name: 'stop an etcd member',
    kind: 'stop',
    strike: async (scene) => stoppedPart(scene, 'etcd', [any(scene)]),
  },
  {
    name: 'stop all etcd members',
    kind: 'stop',
    strike: async (scene) => stoppedPart(scene, 'etcd', ZONES),
  },
  {
    name: "stop the primary's zone",
    kind: 'stop',
    strike: async (scene) => stoppedZone(scene, await scene.cluster.leader()),
  },
  {
    name: "stop the synchronous standby's zone",
    kind: 'stop',
    strike: async (scene) => stoppedZone(scene, await scene.cluster.synchronousStandby()),
  },
  {
    name: "stop the synchronous standby's PostgreSQL",
    kind: 'stop',
    strike: async (scene) => stoppedPostgres(scene, [await scene.cluster.synchronousStandby()]),
  },
  {
    name: "stop both standbys' PostgreSQL",
    kind: 'stop',
    strike: async (scene) => stoppedPostgres(scene, others(await scene.cluster.leader())),
  },
];

const CUTS: readonly Fault[] = [
  {
    name: 'cut a zone from its peers',
    kind: 'cut',
    strike: async (scene) => {
      const zone = any(scene);
      return cutOff(scene, zone, others(zone));
    },
  },
  {
    name: 'cut a zone from everything',
    kind: 'cut',
    strike: async (scene) => cutOff(scene, any(scene)),
  },
  {
    name: "cut the primary's zone from everything",
    kind: 'cut',
    strike: async (scene) => cutOff(scene, await scene.cluster.leader()),
  },
];

const ODD: readonly Fault[] = [
  {
    name: "take away a zone's token",
    kind: 'odd',
    strike: async (scene) => {
      const zone = any(scene);
      const folder = scene.site.tokensOf(zone);
      const [token] = readdirSync(folder);
      if (token === undefined) throw new Error('no token');
      const [there, away] = [`${folder}/${token}`, `${folder}.away`];
      renameSync(there, away);
      return { zones: [zone], end: () => renameSync(away, there) };
    },
  },
  {
    name: 'jump the wall clock of an instance',
    kind: 'odd',
    strike: async (scene) => {
      const zone = any(scene);
      scene.site.setClock(zone, scene.random() < 0.5 ? BACK_S : AHEAD_S);
      return { zones: [zone], end: () => scene.site.setClock(zone, 0) };
    },
  },
];

export const FAULTS: readonly Fault[] = [...KILLS, ...STOPS, ...CUTS, ...ODD];
