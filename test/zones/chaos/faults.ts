/** What a chaos run does to the zones, and how it takes it back. */
import { readdirSync, renameSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { ZONES } from '../cluster.ts';
import type { Cluster, Zone } from '../cluster.ts';
import type { Site, ZoneService } from '../zone-service.ts';

export interface Scene {
  readonly cluster: Cluster;
  readonly site: Site;
  readonly service: (zone: Zone) => ZoneService;
  readonly random: () => number;
}

export interface Fault {
  readonly name: string;
  /** Makes the fault; resolves to what ends it. */
  readonly strike: (scene: Scene) => Promise<() => Promise<void> | void>;
}

const any = ({ random }: Scene): Zone => ZONES[Math.floor(random() * ZONES.length)] ?? 1;
const others = (zone: Zone): readonly Zone[] => ZONES.filter((one) => one !== zone);

/** A stop of `pids` for as long as the fault lasts. */
const stopped = (cluster: Cluster, zone: Zone) => {
  cluster.signal(zone, 'SIGSTOP');
  return () => cluster.signal(zone, 'SIGCONT');
};

export const FAULTS: readonly Fault[] = [
  {
    name: 'kill an instance',
    strike: async (scene) => {
      const service = scene.service(any(scene));
      await service.kill();
      return () => service.start();
    },
  },
  {
    name: "kill the primary's PostgreSQL",
    strike: async ({ cluster }) => {
      cluster.killPostgres(await cluster.leader());
      return () => undefined;
    },
  },
  {
    name: "kill the primary's Patroni",
    strike: async ({ cluster }) => {
      const zone = await cluster.leader();
      cluster.signalPart(zone, 'patroni', 'SIGKILL');
      return () => cluster.start(zone, 'patroni');
    },
  },
  {
    name: 'kill an etcd member',
    strike: async (scene) => {
      const zone = any(scene);
      scene.cluster.signalPart(zone, 'etcd', 'SIGKILL');
      return () => scene.cluster.start(zone, 'etcd');
    },
  },
  {
    name: 'kill all etcd members',
    strike: async ({ cluster }) => {
      for (const zone of ZONES) cluster.signalPart(zone, 'etcd', 'SIGKILL');
      return () => {
        for (const zone of ZONES) cluster.start(zone, 'etcd');
      };
    },
  },
  {
    name: 'kill a zone',
    strike: async (scene) => {
      const zone = any(scene);
      scene.cluster.signal(zone, 'SIGKILL');
      await sleep(0);
      return async () => {
        scene.cluster.restore(zone);
        await scene.service(zone).start();
      };
    },
  },
  {
    name: 'stop an instance',
    strike: async (scene) => {
      const service = scene.service(any(scene));
      service.signal('SIGSTOP');
      return () => service.signal('SIGCONT');
    },
  },
  {
    name: "stop the primary's Patroni alone",
    strike: async ({ cluster }) => {
      const zone = await cluster.leader();
      cluster.signalPart(zone, 'patroni', 'SIGSTOP');
      return () => cluster.signalPart(zone, 'patroni', 'SIGCONT');
    },
  },
  {
    name: "stop the synchronous standby's zone",
    strike: async ({ cluster }) => stopped(cluster, await cluster.synchronousStandby()),
  },
  {
    name: "stop both standbys' PostgreSQL",
    strike: async ({ cluster }) => {
      const zones = others(await cluster.leader());
      for (const zone of zones) cluster.signalPostgres(zone, 'SIGSTOP');
      return () => {
        for (const zone of zones) cluster.signalPostgres(zone, 'SIGCONT');
      };
    },
  },
  {
    name: 'cut a zone from its peers',
    strike: async (scene) => {
      const zone = any(scene);
      scene.cluster.cut(zone, others(zone));
      return () => scene.cluster.heal(zone);
    },
  },
  {
    name: 'cut a zone from everything',
    strike: async (scene) => {
      const zone = any(scene);
      scene.cluster.cut(zone);
      return () => scene.cluster.heal(zone);
    },
  },
  {
    name: "take away a zone's token",
    strike: async (scene) => {
      const folder = scene.site.tokensOf(any(scene));
      const [token] = readdirSync(folder);
      if (token === undefined) throw new Error('no token');
      const [there, away] = [`${folder}/${token}`, `${folder}.away`];
      renameSync(there, away);
      return () => renameSync(away, there);
    },
  },
  {
    name: 'jump the wall clock of an instance',
    strike: async (scene) => {
      const zone = any(scene);
      scene.site.setClock(zone, scene.random() < 0.5 ? -30 : 45);
      return () => scene.site.setClock(zone, 0);
    },
  },
];
