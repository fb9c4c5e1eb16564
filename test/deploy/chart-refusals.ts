/** Values that the chart must not take, since what they make could not work, and what it says of each. */
import { describe, expect, it } from '@jest/globals';
import { example } from './helm.ts';
import type { Helm } from './helm.ts';

export function chartRefusals(helm: Helm): void {
  describe('values that make no sense', () => {
    const network = ['-f', example('network-hsm')];
    const soft = ['-f', example('softhsm-development')];
    const refused: readonly (readonly [string, readonly string[], RegExp])[] = [
      [
        'more sessions than the partition allows',
        [...network, '--set', 'hsm.threads=5'],
        /zone-a: 2 pods x 2 processes x 5 threads x 2 sessions are 40, and hsm\.sessionLimit is 32/u,
      ],
      [
        'more pods than the partition allows',
        [...network, '--set', 'zones[0].replicas=3'],
        /zone-a: 3 pods x 2 processes x 4 threads x 2 sessions are 48/u,
      ],
      [
        'no limit of sessions',
        [...network, '--set', 'hsm.sessionLimit=0'],
        /zone-a: hsm\.sessionLimit is needed/u,
      ],
      [
        'two pods on one SoftHSM',
        [...soft, '--set', 'zones[0].replicas=2'],
        /replicas must be 1, not 2/u,
      ],
      [
        'SoftHSM in two zones, which would have two roots',
        [...soft, '--set', 'zones[1].name=two'],
        /zones dev: hsm\.softhsm makes a root of its own/u,
      ],
      [
        'SoftHSM beside a zone of another release',
        [...soft, '--set', 'otherZones={two}'],
        /zones dev: hsm\.softhsm makes a root of its own/u,
      ],
      ['a zone twice', [...network, '--set', 'zones[1].name=zone-a'], /zone-a is listed twice/u],
      ['no zone', [...network, '--set', 'zones=null'], /at least one zone/u],
      [
        'more connections than the database has',
        [...network, '--set', 'database.poolSize=10'],
        /may take 132 connections/u,
      ],
      [
        'too little time to end',
        [...network, '--set', 'stop.graceSeconds=40'],
        /graceSeconds is 40, and .* are 45/u,
      ],
      ['no issuer', [...network, '--set-json', 'configuration.issuers=[]'], /at least one issuer/u],
      [
        'a value of no meaning',
        [...network, '--set', 'replicaCount=3'],
        /additional properties 'replicaCount' not allowed/u,
      ],
      [
        'a misspelt value of a zone',
        [...network, '--set', 'zones[0].hsm.thread=3'],
        /'thread' not allowed/u,
      ],
      [
        'a setting that the chart makes',
        [...network, '--set', 'configuration.http.port=1'],
        /'http' not allowed/u,
      ],
      [
        'our variables as the vendor’s',
        [...network, '--set', 'hsm.environment.TWOFOLD_MODE=dev'],
        /TWOFOLD_MODE/u,
      ],
      [
        'the loader’s variables',
        [...network, '--set', 'hsm.environment.LD_PRELOAD=/x'],
        /LD_PRELOAD/u,
      ],
      [
        'files over the service’s own',
        [
          ...network,
          '--set',
          'files[0].secretName=x',
          '--set',
          'files[0].mountPath=/etc/twofold/tls',
        ],
        /mountPath/u,
      ],
      [
        'a private key among the issuers’',
        [...network, '--set', 'issuerKeys.x\\.json.keys[0].d=AAAA'],
        /issuerKeys/u,
      ],
      ['a number as text', [...network, '--set-string', 'processes=2'], /processes/u],
      [
        'a zone whose Service is another’s',
        [...network, '--set', 'zones[0].name=b-pods'],
        /zones: b-pods is the name of a Service/u,
      ],
      ['a zone of that name too', [...network, '--set', 'zones[0].name=admin'], /zones: admin is/u],
      [
        'a zone whose Service would be the database’s',
        ['-f', example('cloudnativepg'), '--set', 'zones[0].name=database-rw'],
        /zones: database-rw: cloudnativepg/u,
      ],
      [
        'a zone whose first pod would be the database’s',
        ['-f', example('cloudnativepg'), '--set', 'zones[0].name=database'],
        /zones: database: cloudnativepg/u,
      ],
      [
        'both a token label and a slot',
        [...network, '--set', 'zones[0].hsm.slot=1'],
        /either tokenLabel or slot/u,
      ],
      [
        'a zone here and in another release',
        [...network, '--set', 'otherZones={zone-b}'],
        /otherZones: zone-b is listed twice/u,
      ],
      ['a zone of other releases twice', [...network, '--set', 'otherZones={x,x}'], /otherZones/u],
      [
        'a longer grace than the service takes',
        [...network, '--set', 'zoneGraceMs=120001'],
        /zoneGraceMs/u,
      ],
      [
        'standbys of CloudNativePG',
        ['-f', example('cloudnativepg'), '--set', 'database.readOnly.host=elsewhere'],
        /database\.readOnly/u,
      ],
      [
        'managers of CloudNativePG',
        ['-f', example('cloudnativepg'), '--set', 'database.managers={https://p:8008}'],
        /database\.managers/u,
      ],
      [
        'a password in an address of the manager',
        [...network, '--set', 'database.managers={https://u:p@patroni:8008}'],
        /managers/u,
      ],
      [
        'a policy that cuts off the database',
        [...network, '--set-json', 'networkPolicy.database=[]'],
        /networkPolicy\.database/u,
      ],
      [
        'a monitor that the policy keeps out',
        [...network, '--set-json', 'networkPolicy.metrics=[]'],
        /networkPolicy\.metrics/u,
      ],
      [
        'labels of pods that Services select by',
        [...network, '--set', 'podLabels.twofold/part=x'],
        /twofold\/part/u,
      ],
      [
        'labels of pods that everything selects by',
        [...network, '--set', 'podLabels.app\\.kubernetes\\.io/name=x'],
        /app\.kubernetes\.io\/name/u,
      ],
      [
        'the annotation by which a changed configuration is taken up',
        [...network, '--set', 'podAnnotations.checksum/configuration=x'],
        /checksum\/configuration/u,
      ],
      [
        'several zones on any node',
        ['-f', example('cloudnativepg'), '--set', 'zones[1].name=zone-b'],
        /zones zone-a: topologyZone is needed/u,
      ],
      [
        'two zones on the same nodes',
        [...network, '--set', 'zones[1].topologyZone=eu-1a'],
        /zones zone-b: topologyZone eu-1a is another zone's too/u,
      ],
      [
        'a port that CloudNativePG does not have',
        ['-f', example('cloudnativepg'), '--set', 'database.port=5433'],
        /database\.port/u,
      ],
      [
        'a peer of two kinds',
        [...network, '--set', 'networkPolicy.clients[0].podSelector.matchLabels.a=b'],
        /networkPolicy/u,
      ],
      [
        'backups in a folder that nobody can write',
        [...network, '--set', 'configuration.backup.folder=/backups'],
        /configuration\.backup\.folder/u,
      ],
      [
        'backups among the data',
        [...network, '--set', 'configuration.backup.folder=/var/lib/twofold/data/backups'],
        /configuration\.backup\.folder/u,
      ],
      [
        'backups that lead out of their volume',
        [...network, '--set', 'configuration.backup.folder=/var/lib/twofold/../backups'],
        /configuration\.backup\.folder/u,
      ],
    ];
    const taken: readonly (readonly [string, readonly string[]])[] = [
      [
        'a database that the further rules let through',
        [
          ...network,
          '--set-json',
          'networkPolicy.database=[]',
          '--set-json',
          'networkPolicy.egress=[{"ports":[{"protocol":"TCP","port":5432}]}]',
        ],
      ],
      [
        'no peers where there is no policy',
        [
          ...network,
          '--set-json',
          'networkPolicy.database=[]',
          '--set-json',
          'networkPolicy.metrics=[]',
          '--set',
          'networkPolicy.enabled=false',
        ],
      ],
      [
        'backups in the volume of the pod',
        [...network, '--set', 'configuration.backup.folder=/var/lib/twofold/backups'],
      ],
      ['labels of others', [...network, '--set', 'podLabels.team=x,podAnnotations.team=x']],
      [
        'a peer of pods in namespaces',
        [
          ...network,
          '--set-json',
          'networkPolicy.clients=[{"namespaceSelector":{},"podSelector":{}}]',
        ],
      ],
    ];
    it.each(taken)('takes %s', (_what, argv) => {
      expect(helm.template(...argv)).toMatchObject({ ok: true });
    });

    it.each(refused)('refuses %s', (_what, argv, why) => {
      const { ok, err } = helm.template(...argv);
      expect([ok, err]).toEqual([false, expect.stringMatching(why)]);
    });
  });
}
