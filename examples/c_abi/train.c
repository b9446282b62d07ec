/* SPDX-FileCopyrightText: 2026 The moue authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * A program in C that trains a mixture of experts: residual layers, squared error, AdamW. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moue_c.h"

enum { tokens = 32, width = 8 };

static void must(moue_status status) {
  if (status == MOUE_OK) return;
  fprintf(stderr, "%s\n", moue_last_error());
  exit(1);
}

/* One block of memory per tensor. */
static float** allocate(const moue_model* model) {
  const ptrdiff_t count = moue_tensors(model);
  float** blocks = malloc((size_t)count * sizeof *blocks);
  moue_tensor tensor;
  ptrdiff_t i;
  for (i = 0; blocks != NULL && i < count; ++i) {
    must(moue_tensor_at(model, i, &tensor));
    blocks[i] = calloc((size_t)(tensor.rows * tensor.cols), sizeof(float));
  }
  return blocks;
}
static void release(const moue_model* model, float** blocks) {
  ptrdiff_t i;
  for (i = 0; i < moue_tensors(model); ++i) free(blocks[i]);
  free(blocks);
}

/* The loss after `steps` steps, from the same start each time. */
static float train(const moue_model* model, int steps) {
  float input[tokens * width], x[tokens * width], y[tokens * width];
  const moue_const_rows x_read = {x, tokens, width, width};
  const moue_rows y_rows = {y, tokens, width, width};
  float **weights = allocate(model), **gradients = allocate(model), loss = 0;
  moue_adamw* optimiser;
  moue_pass* pass;
  size_t bytes;
  void* scratch;
  ptrdiff_t layer;
  int step, i;

  must(moue_initialize(model, 7, weights));
  must(moue_workspace_bytes(model, tokens, 1, &bytes));
  scratch = malloc(bytes);
  must(moue_start(model, weights, gradients, tokens, 1, scratch, bytes, &pass));
  must(moue_adamw_create(model, weights, 0, &optimiser));
  for (i = 0; i < tokens * width; ++i) input[i] = (float)sin(i);

  for (step = 0; step < steps; ++step) {
    for (i = 0; i < tokens * width; ++i) x[i] = input[i];
    must(moue_begin(pass, tokens, NULL));
    for (layer = 0; layer < moue_layers(model); ++layer) {
      must(moue_forward(pass, layer, x_read, y_rows));
      for (i = 0; i < tokens * width; ++i) x[i] += y[i];
    }
    must(moue_balance(pass, &loss));
    for (i = 0; i < tokens * width; ++i) {
      const float distance = x[i] - (float)fabs(input[i]);
      loss += distance * distance / (tokens * width);
      x[i] = 2 * distance / (tokens * width); /* from here on x holds its own gradient */
    }
    must(moue_arm(pass, 1));
    for (layer = moue_layers(model); layer-- > 0;) {
      must(moue_backward(pass, layer, x_read, y_rows));
      for (i = 0; i < tokens * width; ++i) x[i] += y[i];
    }
    must(moue_adamw_step(optimiser, pass, 0.01));
    must(moue_reset_gradients(pass));
  }
  moue_adamw_destroy(optimiser);
  moue_end(pass);
  free(scratch);
  release(model, weights);
  release(model, gradients);
  return loss;
}

static void show(const char* name, moue_model* model) {
  const float first = train(model, 1), last = train(model, 300);
  printf("%s: %td layers, %td experts, the loss fell to a fifth: %s\n", name, moue_layers(model), moue_experts(model),
         last < first / 5 ? "yes" : "no");
  moue_destroy(model);
}

int main(void) {
  /* Layers 0 and 1 choose among experts 0 to 3, layer 2 among 2 to 5. */
  const ptrdiff_t offsets[] = {0, 4, 8, 12};
  const int32_t candidates[] = {0, 1, 2, 3, 0, 1, 2, 3, 2, 3, 4, 5};
  moue_usual usual;
  moue_model* model;

  memset(&usual, 0, sizeof usual);
  usual.size = sizeof usual;
  usual.expert = "swiglu";
  usual.router = "universal";
  usual.width = width;
  usual.hidden = 2 * width;
  usual.selected = 2;
  usual.layers = 3;
  usual.experts = 6;
  usual.offsets = offsets;
  usual.candidates = candidates;
  usual.universal_balance = 0.01;
  must(moue_create_usual(&usual, &model));
  show("usual", model);

  must(moue_create_frozen(width, &model));
  show("frozen", model);
  return 0;
}
