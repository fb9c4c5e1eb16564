/**
 * Templates within templates (CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE), which pkcs11js cannot
 * express: CK_ATTRIBUTE arrays laid out by hand and passed through koffi. Ceremony process only.
 */
import koffi from 'koffi';
import { CKM, readUlong, ulong } from './cryptoki.ts';
import type { Handle } from './cryptoki.ts';

export interface NestedAttribute {
  readonly type: number;
  readonly value: Buffer | readonly NestedAttribute[];
}

/** CK_ATTRIBUTE on 64-bit platforms: type, pointer, length. */
const ATTRIBUTE_BYTES = 24;
/** CK_MECHANISM: mechanism, parameter pointer, parameter length. */
const MECHANISM_BYTES = 24;

export const flag = (type: number, value: boolean): NestedAttribute => ({
  type,
  value: Buffer.from([value ? 1 : 0]),
});

export const number = (type: number, value: number): NestedAttribute => ({
  type,
  value: ulong(value),
});

/** C_GenerateKey(CKM_AES_KEY_GEN); throws an error that carries the return value as `code`. */
export function generateAesKey(
  module: string,
  session: Handle,
  template: readonly NestedAttribute[],
): Handle {
  const generate = functionOf(module, GENERATE_KEY, GENERATION);
  const mechanism = Buffer.alloc(MECHANISM_BYTES);
  mechanism.writeBigUInt64LE(BigInt(CKM.AES_KEY_GEN));
  const layout = new Layout();
  const attributes = layout.array(template);
  const handle = Buffer.alloc(8);
  const value = Number(
    generate(readUlong(session), mechanism, attributes, template.length, handle),
  );
  layout.release();
  if (value !== 0) throw Object.assign(new Error(`C_GenerateKey: CKR:${value}`), { code: value });
  return handle;
}

/** C_UnwrapKey without a parameter of the mechanism; fails as `generateAesKey` does. */
export function unwrapKey(
  module: string,
  session: Handle,
  { mechanism: number, key }: { readonly mechanism: number; readonly key: Handle },
  wrapped: Uint8Array,
  template: readonly NestedAttribute[],
): Handle {
  const unwrap = functionOf(module, UNWRAP_KEY, UNWRAPPING);
  const mechanism = Buffer.alloc(MECHANISM_BYTES);
  mechanism.writeBigUInt64LE(BigInt(number));
  const layout = new Layout();
  const attributes = layout.array(template);
  const handle = Buffer.alloc(8);
  const blob = Buffer.from(wrapped);
  const given = [readUlong(session), mechanism, readUlong(key), blob, blob.length] as const;
  const value = Number(unwrap(...given, attributes, template.length, handle));
  layout.release();
  if (value !== 0) throw Object.assign(new Error(`C_UnwrapKey: CKR:${value}`), { code: value });
  return handle;
}

const UNWRAPPING = koffi.proto(
  'ulong UnwrapKey(ulong session, void *mechanism, ulong key, void *wrapped, ulong length, ' +
    'void *template, ulong count, void *handle)',
);
const GENERATION = koffi.proto(
  'ulong GenerateKey(ulong session, void *mechanism, void *template, ulong count, void *handle)',
);

/** Places in a CK_FUNCTION_LIST, of pointers behind its version (pkcs11f.h). */
const GENERATE_KEY = 58;
const UNWRAP_KEY = 61;
const POINTER_BYTES = 8;

/** By the module's function list: the only function that it must export is the one that gives it. */
function functionOf(module: string, place: number, prototype: typeof GENERATION) {
  const functionList = koffi.load(module).func('ulong C_GetFunctionList(_Out_ void **list)');
  const out: unknown[] = [null];
  const value = Number(functionList(out));
  if (value !== 0)
    throw Object.assign(new Error(`C_GetFunctionList: CKR:${value}`), { code: value });
  const pointer: unknown = koffi.decode(out[0], (1 + place) * POINTER_BYTES, 'void *');
  return koffi.decode(pointer, prototype) as (...given: readonly unknown[]) => unknown;
}

/** Owns the buffers that pointers in the arrays lead to until the call has returned. */
class Layout {
  readonly #held: Buffer[] = [];

  array(template: readonly NestedAttribute[]): Buffer {
    const bytes = this.#hold(Buffer.alloc(ATTRIBUTE_BYTES * template.length));
    template.forEach(({ type, value }, index) => {
      const content = Buffer.isBuffer(value) ? this.#hold(value) : this.array(value);
      const offset = index * ATTRIBUTE_BYTES;
      bytes.writeBigUInt64LE(BigInt(type), offset);
      bytes.writeBigUInt64LE(koffi.address(content), offset + 8);
      bytes.writeBigUInt64LE(BigInt(content.length), offset + 16);
    });
    return bytes;
  }

  release(): void {
    this.#held.length = 0;
  }

  #hold(buffer: Buffer): Buffer {
    this.#held.push(buffer);
    return buffer;
  }
}
