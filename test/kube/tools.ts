/** Kubernetes' programs for these tests, built when they are not here; undefined where they cannot be. */
import { kubeTool } from '../deploy/helm.ts';

export interface KubeTools {
  readonly etcd: string;
  readonly apiServer: string;
}

export const kubeTools = (): KubeTools | undefined => {
  const etcd = kubeTool('etcd');
  const apiServer = etcd === undefined ? undefined : kubeTool('kube-apiserver');
  return etcd === undefined || apiServer === undefined ? undefined : { etcd, apiServer };
};

export const WITHOUT = 'Not run here: kube-apiserver and etcd are not there, nor Go to build them.';
