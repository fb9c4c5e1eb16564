/**
 * A version's material as columns: classical half, post-quantum half and psk, each with its custody
 * in a column of its own and all of its columns null where the suite has no such part.
 */
import type { Material, SealedHalf } from '../keyring/model.ts';
import type { key_versionModel } from './generated/models/key_version.ts';
import type { Column } from './key-rows.ts';
import type { RowReader } from './rows.ts';

type MaterialColumn = Extract<keyof key_versionModel, `${'classical' | 'pq' | 'psk'}_${string}`>;
type MaterialRow = { readonly [C in MaterialColumn]: Column<key_versionModel[C]> };
type Reader = RowReader<{ readonly [C in keyof key_versionModel]: Column<key_versionModel[C]> }>;

const CLASSICAL = {
  classical_custody: null,
  classical_public: null,
  classical_check: null,
  classical_generation: null,
  classical_blob: null,
  classical_token_serial: null,
  classical_installation: null,
  classical_object_id: null,
} as const;
const PQ = { pq_custody: null, pq_public: null, pq_generation: null, pq_sealed: null } as const;
const PSK = { psk_custody: null, psk_generation: null, psk_sealed: null } as const;

/** The columns of a destroyed version. */
export const NO_MATERIAL = { ...CLASSICAL, ...PQ, ...PSK } as const satisfies MaterialRow;

const columnsOf = <T extends object>(part: T) => Object.keys(part) as (keyof T & string)[];

export const materialColumns = ({ classical, pq, psk }: Material): MaterialRow => ({
  ...NO_MATERIAL,
  ...(classical === null ? {} : classicalColumns(classical)),
  ...(pq === null
    ? {}
    : {
        pq_custody: pq.half.custody,
        pq_public: pq.public,
        pq_generation: pq.half.generation,
        pq_sealed: pq.half.sealed,
      }),
  ...(psk === null
    ? {}
    : { psk_custody: psk.custody, psk_generation: psk.generation, psk_sealed: psk.sealed }),
});

const classicalColumns = ({ public: publicKey, hsm }: NonNullable<Material['classical']>) => {
  const shared = {
    classical_custody: hsm.custody,
    classical_public: publicKey,
    classical_check: hsm.check,
  };
  switch (hsm.custody) {
    case 'hsm-wrapped':
      return { ...shared, classical_generation: hsm.generation, classical_blob: hsm.blob };
    case 'hsm-token':
      return {
        ...shared,
        classical_token_serial: hsm.tokenSerial,
        classical_installation: hsm.installation,
        classical_object_id: hsm.objectId,
      };
  }
};

/** @throws TwofoldError integrity_failed */
export const materialFromRow = (columns: Reader): Material => ({
  classical: columns.any(columnsOf(CLASSICAL)) ? classicalFrom(columns) : null,
  pq: columns.any(columnsOf(PQ))
    ? {
        public: columns.bytes('pq_public'),
        half: sealed(columns, 'pq_custody', 'pq_generation', 'pq_sealed'),
      }
    : null,
  psk: columns.any(columnsOf(PSK))
    ? sealed(columns, 'psk_custody', 'psk_generation', 'psk_sealed')
    : null,
});

const classicalFrom = (columns: Reader): NonNullable<Material['classical']> => {
  const custody = columns.one('classical_custody', ['hsm-wrapped', 'hsm-token']);
  const publicKey = columns.maybeBytes('classical_public');
  const check = columns.bytes('classical_check');
  switch (custody) {
    case 'hsm-wrapped':
      return {
        public: publicKey,
        hsm: {
          custody,
          generation: columns.integer('classical_generation'),
          blob: columns.bytes('classical_blob'),
          check,
        },
      };
    case 'hsm-token':
      return {
        public: publicKey,
        hsm: {
          custody,
          tokenSerial: columns.text('classical_token_serial'),
          installation: columns.text('classical_installation'),
          objectId: columns.bytes('classical_object_id'),
          check,
        },
      };
  }
};

const sealed = (
  columns: Reader,
  custody: 'pq_custody' | 'psk_custody',
  generation: 'pq_generation' | 'psk_generation',
  bytes: 'pq_sealed' | 'psk_sealed',
): SealedHalf => ({
  custody: columns.one(custody, ['sealed']),
  generation: columns.integer(generation),
  sealed: columns.bytes(bytes),
});
