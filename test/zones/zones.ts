/** Three zones with a Twofold each, for a test file: up before it, gone after it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { makeCertificates } from './certificates.ts';
import { addressOf, Cluster, PROXY_ADDRESS, ZONES } from './cluster.ts';
import type { Zone } from './cluster.ts';
import { makeRoles, Site, ZoneService } from './zone-service.ts';

export class Zones {
  readonly folder: string;
  readonly cluster: Cluster;
  readonly site: Site;
  readonly #services: Map<Zone, ZoneService>;

  private constructor(cluster: Cluster, site: Site) {
    this.folder = cluster.folder;
    this.cluster = cluster;
    this.site = site;
    this.#services = new Map(ZONES.map((zone) => [zone, new ZoneService(site, zone)]));
  }

  /** `release`: the folder of another version than this tree's. */
  static async up(
    settings: Readonly<Record<string, string>> = {},
    release?: string,
  ): Promise<Zones> {
    const folder = mkdtempSync(join(tmpdir(), 'twofold-zones-'));
    const addresses = ['127.0.0.1', PROXY_ADDRESS, ...ZONES.map(addressOf)];
    makeCertificates(folder, ['server', 'twofold'], addresses);
    const cluster = await Cluster.up(folder);
    makeRoles(cluster);
    const zones = new Zones(cluster, await Site.make(cluster, release));
    zones.site.settings = settings;
    try {
      for (const zone of ZONES) await zones.service(zone).start();
    } catch (error) {
      // Nobody else knows what already runs.
      await zones.down();
      throw error;
    }
    return zones;
  }

  service(zone: Zone): ZoneService {
    const found = this.#services.get(zone);
    if (found === undefined) throw new Error('no such zone');
    return found;
  }

  /** Another in a zone's place; the one before is stopped by whoever replaces it. */
  async replace(zone: Zone, databaseUrl?: string): Promise<ZoneService> {
    const service = new ZoneService(this.site, zone, databaseUrl);
    this.#services.set(zone, service);
    await service.start();
    return service;
  }

  async down(): Promise<void> {
    for (const zone of ZONES) await this.service(zone).stop();
    await this.cluster.down();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
