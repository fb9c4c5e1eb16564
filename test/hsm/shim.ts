/** Shared libraries of a few lines, compiled where a test needs a module that misbehaves in native code. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Compiles C into `<folder>/<name>.so`. */
export function compileShim(folder: string, name: string, source: string): string {
  const [code, library] = [join(folder, `${name}.c`), join(folder, `${name}.so`)];
  writeFileSync(code, source);
  execFileSync('g++', ['-x', 'c', '-shared', '-fPIC', '-o', library, code]);
  return library;
}

/** A library whose C_GenerateKey answers `returnValue` and does nothing. */
export function generationAnswers(folder: string, returnValue: number): string {
  const source = `
    static unsigned long generate(void) { return ${returnValue}ul; }
    unsigned long C_GetFunctionList(void **list) {
      static void *functions[69];
      functions[1 + 58] = (void *)generate;
      *list = functions;
      return 0;
    }
  `;
  return compileShim(folder, `generate-${returnValue}`, source);
}

/** A library that is no module, and writes its process's environment to `<itself>.env` when loaded. */
export function environmentWriter(folder: string): string {
  const library = join(folder, 'environment.so');
  return compileShim(
    folder,
    'environment',
    `#include <stdio.h>
     extern char **environ;
     __attribute__((constructor)) static void show(void) {
       FILE *out = fopen("${library}.env", "w");
       for (char **one = environ; out && *one; one++) fprintf(out, "%s\\n", *one);
       if (out) fclose(out);
     }
    `,
  );
}

/** Places of functions in a CK_FUNCTION_LIST (PKCS #11 v2.40, pkcs11f.h). */
const PLACES: Readonly<Record<string, number>> = {
  C_InitToken: 9,
  C_InitPIN: 10,
  C_SetPIN: 11,
  C_Login: 18,
  C_EncryptInit: 29,
  C_DecryptInit: 33,
  C_GenerateKey: 58,
  C_UnwrapKey: 61,
};

const WRAPPER = `#include <dlfcn.h>
  #include <stdio.h>
  #include <string.h>
  typedef unsigned long call(unsigned long, unsigned long, void *, unsigned long, void *);
  static void **theirs;
  static void *ours[69];`;

/** The function list of `module` with `<name>_` of the shim in place of each name. */
function functionList(module: string, names: readonly string[]): string {
  const places = names.map((name) => `ours[1 + ${PLACES[name] ?? 0}] = (void *)${name}_;`);
  return `
    unsigned long C_GetFunctionList(void **list) {
      void *handle = dlopen("${module}", RTLD_NOW);
      unsigned long (*get)(void **) = (unsigned long (*)(void **))dlsym(handle, "C_GetFunctionList");
      void *all;
      unsigned long answer = get(&all);
      if (answer) return answer;
      memcpy(ours, all, sizeof ours);
      theirs = (void **)all + 1;
      ${places.join('\n      ')}
      *list = ours;
      return 0;
    }`;
}

/**
 * A module that hands everything to `module` and writes a line to `<itself>.calls` for each call that
 * would change a token's PINs, initialise it or log in (with the kind of user: 0 SO, 1 user).
 */
export function callRecorder(folder: string, module: string): string {
  const library = join(folder, 'recorder.so');
  const names = ['C_InitToken', 'C_InitPIN', 'C_SetPIN', 'C_Login'];
  const wrappers = names.map(
    (name) => `
      static unsigned long ${name}_(unsigned long a, unsigned long b, void *c, unsigned long d, void *e) {
        FILE *out = fopen("${library}.calls", "a");
        if (out) { fprintf(out, "${name}${name === 'C_Login' ? ' %lu' : ''}\\n", b); fclose(out); }
        return ((call *)theirs[${PLACES[name] ?? 0}])(a, b, c, d, e);
      }`,
  );
  return compileShim(
    folder,
    'recorder',
    `${WRAPPER}
     ${wrappers.join('')}
     ${functionList(module, names)}
    `,
  );
}

/**
 * A module that hands everything to `module`, but is as strict as others are: it takes GCM parameters only
 * with ulIvBits right, knows no CKA_WRAP_WITH_TRUSTED where it makes or unwraps secret keys, and answers
 * CKR_DEVICE_ERROR to a blob that does not open.
 */
export function strictModule(folder: string, module: string): string {
  const gcm = ['C_EncryptInit', 'C_DecryptInit'].map(
    (name) => `
      static unsigned long ${name}_(unsigned long a, unsigned long *mechanism, unsigned long key) {
        const unsigned long *gcm = (const unsigned long *)mechanism[1];
        if (mechanism[0] == 0x1087 && (gcm[1] != 12 || gcm[2] != 96)) return 0x71;
        return ((unsigned long (*)(unsigned long, unsigned long *, unsigned long))theirs[${PLACES[name] ?? 0}])(a, mechanism, key);
      }`,
  );
  return compileShim(
    folder,
    'strict',
    `${WRAPPER}
     ${gcm.join('')}
     static int unknown(const unsigned long *attribute, unsigned long count) {
       for (; count; count--, attribute += 3) if (attribute[0] == 0x210) return 1;
       return 0;
     }
     static unsigned long C_GenerateKey_(unsigned long a, void *b, unsigned long *c, unsigned long d, void *e) {
       if (unknown(c, d)) return 0x12;
       return ((unsigned long (*)(unsigned long, void *, void *, unsigned long, void *))theirs[58])(a, b, c, d, e);
     }
     static unsigned long C_UnwrapKey_(unsigned long a, void *b, unsigned long c, void *d, unsigned long e,
                                       unsigned long *f, unsigned long g, void *h) {
       if (unknown(f, g)) return 0x12;
       unsigned long answer = ((unsigned long (*)(unsigned long, void *, unsigned long, void *, unsigned long,
         void *, unsigned long, void *))theirs[61])(a, b, c, d, e, f, g, h);
       return answer == 0 ? 0 : 0x30;
     }
     ${functionList(module, ['C_EncryptInit', 'C_DecryptInit', 'C_GenerateKey', 'C_UnwrapKey'])}
    `,
  );
}

/** `module` under another manufacturer's name. */
export function foreignModule(folder: string, module: string): string {
  return compileShim(
    folder,
    'foreign',
    `#include <dlfcn.h>
     #include <string.h>
     typedef unsigned long (*get_list)(void ***);
     typedef unsigned long (*get_info)(char *);
     static void *list[69];
     static get_info original;
     static unsigned long info(char *into) {
       unsigned long answer = original(into);
       memcpy(into + 2, "Another maker                   ", 32);
       return answer;
     }
     unsigned long C_GetFunctionList(void ***into) {
       void **theirs;
       get_list get = (get_list)dlsym(dlopen("${module}", RTLD_NOW), "C_GetFunctionList");
       unsigned long answer = get(&theirs);
       memcpy(list, theirs, sizeof list);
       original = (get_info)list[3];
       list[3] = (void *)info;
       *into = list;
       return answer;
     }
    `,
  );
}
