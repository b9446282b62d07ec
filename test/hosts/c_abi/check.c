/* SPDX-FileCopyrightText: 2026 The moue authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * The C interface as a C99 program sees it: shapes, gradients, topologies, refusals. Ends with 1 if anything is wrong. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moue_c.h"

enum { tokens = 6, width = 4, layers = 2, most_tensors = 64 };

static int passed = 0, failed = 0;

static void check(int holds, const char* what) {
  if (holds) {
    ++passed;
  } else {
    ++failed;
    printf("%s (last error: %s)\n", what, moue_last_error());
  }
}
static int says(const char* part) { return strstr(moue_last_error(), part) != NULL; }

static moue_usual usual_of(const char* expert, const char* router) {
  moue_usual usual;
  memset(&usual, 0, sizeof usual);
  usual.size = sizeof usual;
  usual.expert = expert;
  usual.router = router;
  usual.width = width;
  usual.hidden = 5;
  usual.selected = 2;
  usual.layers = layers;
  usual.experts = 4;
  usual.switch_loss = 0.02;
  usual.universal_balance = 0.01;
  return usual;
}

typedef struct {
  moue_model* model;
  float *weights[most_tensors], *gradients[most_tensors];
  void* scratch;
  size_t bytes;
  moue_pass* pass;
} run;

static run start(const moue_usual* usual) {
  run r;
  moue_tensor tensor;
  ptrdiff_t i;
  memset(&r, 0, sizeof r);
  if (moue_create_usual(usual, &r.model) != MOUE_OK) {
    printf("no usual model: %s\n", moue_last_error());
    exit(1);
  }
  check(moue_tensors(r.model) <= most_tensors, "few tensors");
  for (i = 0; i < moue_tensors(r.model); ++i) {
    check(moue_tensor_at(r.model, i, &tensor) == MOUE_OK, "a tensor");
    r.weights[i] = calloc((size_t)(tensor.rows * tensor.cols), sizeof(float));
    r.gradients[i] = calloc((size_t)(tensor.rows * tensor.cols), sizeof(float));
  }
  check(moue_initialize(r.model, 3, r.weights) == MOUE_OK, "fresh weights");
  check(moue_workspace_bytes(r.model, tokens, 1, &r.bytes) == MOUE_OK && r.bytes > 0, "bytes");
  r.scratch = malloc(r.bytes);
  check(moue_start(r.model, r.weights, r.gradients, tokens, 1, r.scratch, r.bytes, &r.pass) == MOUE_OK, "a pass");
  return r;
}
static void end(run* r) {
  ptrdiff_t i;
  for (i = 0; i < moue_tensors(r->model); ++i) free(r->weights[i]), free(r->gradients[i]);
  moue_end(r->pass);
  moue_destroy(r->model);
  free(r->scratch);
}

/* The sum of all outputs plus the balancing loss. `chosen` gets the experts of all layers. */
static double forward(const run* r, const float* x, int32_t* chosen) {
  float h[tokens * width], balance;
  moue_assignments assigned;
  double sum = 0;
  ptrdiff_t layer;
  int i;
  const moue_const_rows in = {h, tokens, width, width};
  const moue_rows out = {h, tokens, width, width};
  memcpy(h, x, sizeof h);
  check(moue_begin(r->pass, tokens, NULL) == MOUE_OK, "begin");
  for (layer = 0; layer < moue_layers(r->model); ++layer)
    check(moue_forward(r->pass, layer, in, out) == MOUE_OK, "forward");
  for (layer = 0; layer < moue_layers(r->model); ++layer) {
    check(moue_assigned(r->pass, layer, &assigned) == MOUE_OK, "assigned");
    check(assigned.tokens == tokens && assigned.entries == 2 * tokens, "two experts for each token");
    memcpy(chosen + layer * assigned.entries, assigned.expert, (size_t)assigned.entries * sizeof *chosen);
  }
  check(moue_balance(r->pass, &balance) == MOUE_OK, "balance");
  for (i = 0; i < tokens * width; ++i) sum += h[i];
  return sum + balance;
}

/* One weight of every tensor, moved a little, against its gradient. */
static void check_gradients(const char* expert, const char* router) {
  const moue_usual usual = usual_of(expert, router);
  run r = start(&usual);
  float x[tokens * width], d[tokens * width];
  const moue_const_rows dy = {d, tokens, width, width};
  const moue_rows dx = {d, tokens, width, width};
  moue_tensor tensor;
  ptrdiff_t layer, i;
  int32_t chosen[layers * 2 * tokens], other[layers * 2 * tokens];
  int j, live, same, compared = 0;
  const float step = 1e-2F;
  for (j = 0; j < tokens * width; ++j) x[j] = (float)sin(3 * j), d[j] = 1;
  forward(&r, x, chosen);
  check(moue_arm(r.pass, 1) == MOUE_OK, "arm");
  for (layer = moue_layers(r.model); layer-- > 0;) check(moue_backward(r.pass, layer, dy, dx) == MOUE_OK, "backward");
  for (i = 0; i < moue_tensors(r.model); ++i) {
    check(moue_live(r.pass, i, &live) == MOUE_OK, "live");
    check(moue_tensor_at(r.model, i, &tensor) == MOUE_OK, "tensor");
    if (!live || tensor.expert < 0) continue; /* a router's step may change a selection */
    {
      float* const weight = r.weights[i];
      const float before = *weight;
      double up, down;
      *weight = before + step, up = forward(&r, x, other);
      same = memcmp(chosen, other, sizeof chosen) == 0;
      *weight = before - step, down = forward(&r, x, other);
      same = same && memcmp(chosen, other, sizeof chosen) == 0;
      *weight = before;
      if (!same) continue; /* the step has changed what the next layer selects, which has no derivative */
      /* Second-order terms of a step of 0.01, and float sums, stay below this; gradients are of order 1. */
      check(fabs((up - down) / (2 * step) - *r.gradients[i]) < 2e-2, tensor.name);
      ++compared;
    }
  }
  check(compared >= 4, "most gradients could be compared");
  end(&r);
}

static void check_topology(void) {
  const ptrdiff_t offsets[] = {0, 2, 4}, falling[] = {0, 2, 1};
  const int32_t candidates[] = {0, 1, 2, 3};
  moue_usual usual = usual_of("swiglu", "softmax");
  int32_t chosen[layers * 2 * tokens];
  float x[tokens * width];
  moue_model* none = NULL;
  int j, inside = 1;
  run r;
  usual.offsets = offsets, usual.candidates = candidates;
  r = start(&usual);
  for (j = 0; j < tokens * width; ++j) x[j] = (float)cos(j);
  forward(&r, x, chosen);
  for (j = 0; j < layers * 2 * tokens; ++j) inside = inside && chosen[j] / 2 == j / (2 * tokens);
  check(inside, "each layer uses its own experts");
  end(&r);
  usual.offsets = falling;
  check(moue_create_usual(&usual, &none) == MOUE_MISUSE && says("offsets of layer 1 do not ascend"), "falling offsets");
  usual.offsets = NULL;
  check(moue_create_usual(&usual, &none) == MOUE_MISUSE && says("give both"), "candidates without offsets");
  check(none == NULL, "nothing was made");
}

static void check_refusals(void) {
  moue_usual usual = usual_of("swiglu", "softmax");
  run r = start(&usual);
  float x[tokens * width] = {0};
  const moue_const_rows in = {x, tokens, width, width}, narrow = {x, tokens, width - 1, width};
  const moue_rows out = {x, tokens, width, width};
  moue_model* none = NULL;
  moue_pass* pass = NULL;
  moue_tensor tensor;
  size_t bytes;

  check(moue_c_version() == MOUE_C_VERSION, "the version");
  usual.router = "magic";
  check(moue_create_usual(&usual, &none) == MOUE_MISUSE && says("no router is called 'magic'"), "a router's name");
  usual.router = NULL;
  check(moue_create_usual(&usual, &none) == MOUE_MISUSE && says("'router' is null"), "no router");
  usual = usual_of("magic", "softmax");
  check(moue_create_usual(&usual, &none) == MOUE_MISUSE && says("no expert is called 'magic'"), "an expert's name");
  usual = usual_of("swiglu", "softmax");
  usual.size -= 1;
  check(moue_create_usual(&usual, &none) == MOUE_MISUSE && says("'size' is"), "another header");
  usual = usual_of("swiglu", "softmax");
  usual.width = -1;
  check(moue_create_usual(&usual, &none) == MOUE_MISUSE, "a negative width");
  check(moue_create_usual(NULL, &none) == MOUE_MISUSE && says("'what' is null"), "no settings");
  check(moue_create_frozen(4, NULL) == MOUE_MISUSE && says("'out' is null"), "no place");
  check(none == NULL, "nothing was made");

  check(moue_tensor_at(r.model, moue_tensors(r.model), &tensor) == MOUE_MISUSE, "a tensor too many");
  check(moue_tensor_at(NULL, 0, &tensor) == MOUE_MISUSE && says("'model' is null"), "no model");
  check(
      moue_start(r.model, NULL, NULL, tokens, 0, r.scratch, r.bytes, &pass) == MOUE_MISUSE && says("'weights' is null"),
      "no weights");
  check(
      moue_start(r.model, r.weights, NULL, tokens, 1, r.scratch, 64, &pass) == MOUE_MEMORY && says("bytes are needed"),
      "too little scratch memory");
  check(pass == NULL, "no pass was made");
  check(moue_workspace_bytes(r.model, -1, 1, &bytes) == MOUE_MISUSE, "negative tokens");

  check(moue_forward(r.pass, 0, in, out) == MOUE_MISUSE, "forward before begin");
  check(moue_begin(r.pass, tokens, NULL) == MOUE_OK, "begin");
  check(moue_forward(r.pass, 1, in, out) == MOUE_MISUSE && says("layer 1"), "the order of layers");
  check(moue_forward(r.pass, 0, narrow, out) == MOUE_MISUSE, "a narrow input");
  check(moue_forward(r.pass, 0, in, out) == MOUE_OK, "misuse changed nothing");
  check(moue_backward(r.pass, 1, in, out) == MOUE_MISUSE, "backward of what has not run");
  check(moue_forward(NULL, 0, in, out) == MOUE_MISUSE && says("'pass' is null"), "no pass");
  end(&r);
  moue_end(NULL), moue_destroy(NULL), moue_adamw_destroy(NULL);
}

int main(void) {
  check_gradients("swiglu", "softmax");
  check_gradients("swiglu", "sigmoid");
  check_gradients("swiglu", "universal");
  check_gradients("gelu", "softmax");
  check_gradients("gelu", "sigmoid");
  check_gradients("gelu", "universal");
  check_topology();
  check_refusals();
  printf("%d checks in C, %d failed\n", passed + failed, failed);
  return failed != 0;
}
