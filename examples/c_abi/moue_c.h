/* SPDX-FileCopyrightText: 2026 The moue authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Mixtures of experts behind a C interface: numbers are floats, matrices are row-major.
 *
 * All numbers lie in memory of the caller. Whatever is given to a function must stay as it is for as long as the comment
 * says; nothing else is kept. A function that can fail returns a status; a failed call changed nothing but what it was to
 * write, and `moue_last_error` says in one sentence what was wrong and how to fix it. */
#ifndef MOUE_C_H
#define MOUE_C_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define MOUE_C_API __declspec(dllexport)
#else
#define MOUE_C_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface: it changes when a program that was compiled before no longer works. */
#define MOUE_C_VERSION 1
MOUE_C_API int moue_c_version(void);

/* What a program can do about a failure. */
typedef enum {
  MOUE_OK = 0,
  MOUE_MISUSE = 1,  /* arguments, shapes or an order of calls that do not fit */
  MOUE_MEMORY = 2,  /* the scratch memory is too small, or the machine has no more */
  MOUE_NUMBERS = 3, /* NaN or infinity where it is refused */
  MOUE_FILE = 4,    /* a path that cannot be read or written */
  MOUE_CONTENT = 5, /* a file that does not hold what it should */
  MOUE_SYSTEM = 6,  /* threads that are not to be had */
  MOUE_INTERNAL = 7 /* anything else */
} moue_status;

/* Of this thread's last call that failed, until its next one that does. Never null. */
MOUE_C_API const char* moue_last_error(void);

/* ---- Models: they never change, and threads may share them. ---- */

typedef struct moue_model moue_model;

/* A mixture by names and sizes. Set `size` to sizeof(moue_usual) and all that you do not need to 0. */
typedef struct {
  size_t size;
  const char* expert; /* "swiglu" or "gelu" */
  const char* router; /* "softmax" (of the selected), "sigmoid" (renormalised) or "universal" */
  ptrdiff_t width;    /* numbers per token */
  ptrdiff_t hidden;   /* numbers inside an expert */
  ptrdiff_t selected; /* experts per token */
  ptrdiff_t layers;
  ptrdiff_t experts; /* physical experts, numbered from 0 */
  /* Which experts a layer may use: those of layer l are candidates[offsets[l]] .. candidates[offsets[l + 1] - 1], and
   * offsets has layers + 1 elements. Both null: every layer may use all experts. Read during the call only. */
  const ptrdiff_t* offsets;
  const int32_t* candidates;
  double switch_loss;       /* weight of the balancing loss of each layer */
  double universal_balance; /* weight of the one over the whole depth */
  int threads;              /* 0: the caller's thread alone */
} moue_usual;

MOUE_C_API moue_status moue_create_usual(const moue_usual* what, moue_model** out);
/* The composition that frozen.cpp spells out: six layers that share eight experts, two of which do nothing. */
MOUE_C_API moue_status moue_create_frozen(ptrdiff_t width, moue_model** out);
/* Null is allowed. Passes keep what they need of the model. */
MOUE_C_API void moue_destroy(moue_model* model);

MOUE_C_API ptrdiff_t moue_width(const moue_model* model);
MOUE_C_API ptrdiff_t moue_layers(const moue_model* model);
MOUE_C_API ptrdiff_t moue_experts(const moue_model* model);
MOUE_C_API ptrdiff_t moue_tensors(const moue_model* model);

/* One tensor of the weights: [rows, cols], without gaps. */
typedef struct {
  const char* name; /* lives as long as the model */
  ptrdiff_t rows, cols;
  ptrdiff_t layer;  /* or -1 */
  ptrdiff_t expert; /* or -1 */
  int32_t trained;
} moue_tensor;

MOUE_C_API moue_status moue_tensor_at(const moue_model* model, ptrdiff_t tensor, moue_tensor* out);
/* Fresh numbers for all tensors; `weights` has one pointer per tensor, in their order. */
MOUE_C_API moue_status moue_initialize(const moue_model* model, uint64_t seed, float* const* weights);

/* ---- Passes: one batch's way through the layers and back. One thread at a time. ---- */

typedef struct moue_pass moue_pass;
typedef struct {
  const float* data;
  ptrdiff_t rows, cols;
  ptrdiff_t stride; /* elements from one row to the next */
} moue_const_rows;
typedef struct {
  float* data;
  ptrdiff_t rows, cols, stride;
} moue_rows;

/* Bytes of scratch memory for passes of at most `tokens` tokens. */
MOUE_C_API moue_status moue_workspace_bytes(const moue_model* model, ptrdiff_t tokens, int training, size_t* out);
/* `weights`: one pointer per tensor. `gradients`: the same, null where none is wanted; a null array for inference, or when
 * only gradients of inputs are. The arrays of pointers are copied; what they point at, and the scratch memory, must stay
 * until the pass is destroyed. Two passes at once need scratch memory and gradients of their own. */
MOUE_C_API moue_status moue_start(const moue_model* model, float* const* weights, float* const* gradients,
                                  ptrdiff_t tokens, int training, void* scratch, size_t bytes, moue_pass** out);
/* Null is allowed. */
MOUE_C_API void moue_end(moue_pass* pass);

/* A new batch. `valid` [tokens] is 0 for padding, or null; it is read until the next batch. */
MOUE_C_API moue_status moue_begin(moue_pass* pass, ptrdiff_t tokens, const uint8_t* valid);
/* Layers in order. x and y may be the same memory. */
MOUE_C_API moue_status moue_forward(moue_pass* pass, ptrdiff_t layer, moue_const_rows x, moue_rows y);
/* The balancing loss of the layers that have run. */
MOUE_C_API moue_status moue_balance(const moue_pass* pass, float* out);
/* Gives the balancing loss, times `scale`, a gradient. After the last forward, before the first backward. */
MOUE_C_API moue_status moue_arm(moue_pass* pass, float scale);
/* Layers in reverse order: dx from dy (the same memory is allowed); gradients of weights are added up. */
MOUE_C_API moue_status moue_backward(moue_pass* pass, ptrdiff_t layer, moue_const_rows dy, moue_rows dx);
/* Backward may run again over what forward saved. */
MOUE_C_API moue_status moue_rewind(moue_pass* pass);
/* Where a layer sent its tokens: those of token t are the entries offsets[t] .. offsets[t + 1] - 1. */
typedef struct {
  ptrdiff_t tokens, entries;
  const ptrdiff_t* offsets;
  const int32_t* expert; /* or -1: nowhere */
  const float* gate;
} moue_assignments;
/* Readable until the pass goes on. */
MOUE_C_API moue_status moue_assigned(const moue_pass* pass, ptrdiff_t layer, moue_assignments* out);

/* Whether a gradient holds numbers: those of experts that no token reached do not, and count as zero. */
MOUE_C_API moue_status moue_live(const moue_pass* pass, ptrdiff_t tensor, int* out);
/* No gradient holds numbers any more: the next backward overwrites them. */
MOUE_C_API moue_status moue_reset_gradients(moue_pass* pass);

/* ---- AdamW, for programs without an optimiser of their own. ---- */

typedef struct moue_adamw moue_adamw;

/* Moments of zero. `weights` are those it is to train. */
MOUE_C_API moue_status moue_adamw_create(const moue_model* model, float* const* weights, double decay,
                                         moue_adamw** out);
/* One step along the gradients of `pass`, which stay as they are. */
MOUE_C_API moue_status moue_adamw_step(moue_adamw* optimiser, const moue_pass* pass, double learning_rate);
/* Null is allowed. */
MOUE_C_API void moue_adamw_destroy(moue_adamw* optimiser);

#ifdef __cplusplus
}
#endif
#endif
