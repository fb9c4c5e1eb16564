/** The control plane of one suite: etcd, an API server over it, and a folder that holds all of their files. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiServer } from './api-server.ts';
import { Etcd } from './etcd.ts';
import type { KubeTools } from './tools.ts';

/** For a program's start, on a machine with other work. */
export const STARTS_MS = 180_000;
export const ENDS_MS = 60_000;

/** Something beside the control plane, which stands before it and ends after it. */
export interface Beside {
  start(): Promise<void>;
  destroy(): Promise<void>;
}

export interface ClusterOptions<P extends Beside> {
  /** Made in the cluster's folder. */
  readonly beside: (folder: string) => P;
  /** The first EncryptionConfiguration, as text. */
  readonly encryption: (beside: P) => string;
}

export class Cluster<P extends Beside> {
  readonly folder: string;
  readonly etcd: Etcd;
  readonly kube: ApiServer;
  readonly beside: P;

  private constructor(folder: string, etcd: Etcd, kube: ApiServer, beside: P) {
    this.folder = folder;
    this.etcd = etcd;
    this.kube = kube;
    this.beside = beside;
  }

  /** Resolves when the API server is ready; what was started ends again where one of them does not start. */
  static async start<P extends Beside>(
    { etcd: etcdPath, apiServer }: KubeTools,
    { beside: make, encryption }: ClusterOptions<P>,
  ): Promise<Cluster<P>> {
    const folder = mkdtempSync(join(tmpdir(), 'twofold-kube-'));
    const beside = make(folder);
    const ends: (() => Promise<void>)[] = [() => beside.destroy()];
    try {
      await beside.start();
      const etcd = await Etcd.start(etcdPath, folder);
      ends.unshift(() => etcd.stop());
      const own = { path: apiServer, folder: join(folder, 'kube'), etcd };
      const kube = new ApiServer({ ...own, encryption: encryption(beside) });
      ends.unshift(() => kube.stop('SIGKILL'));
      await kube.start();
      return new Cluster(folder, etcd, kube, beside);
    } catch (error) {
      for (const end of ends) await end();
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  async destroy(): Promise<void> {
    await this.kube.stop('SIGKILL');
    await this.etcd.stop();
    await this.beside.destroy();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Nothing beside it. */
export const alone = (): Beside => ({
  start: () => Promise.resolve(),
  destroy: () => Promise.resolve(),
});
