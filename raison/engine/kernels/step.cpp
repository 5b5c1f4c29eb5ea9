// One engine step of a decoder: tokens in, logits out, without a framework between the layers.
//
// Every number of a row depends on its own sequence alone, bit for bit, whatever the batch and the number of threads
// (product.hpp). Mirrors engine/runner.py, which is the reference that tests hold it against. Not covered: bf16 weights.
#include "turn.hpp"

extern "C" {

void* raison_model(const raison::Shape* shape) { return new raison::Model(*shape); }
void raison_pack(void* model, const raison::Weight* weights, int threads) {
    static_cast<raison::Model*>(model)->pack(weights, threads);
}
void raison_warm(int64_t bytes) { raison::Reserve::shared().warm((size_t)bytes); }
void raison_free(void* model) { delete static_cast<raison::Model*>(model); }
void raison_step(const void* model, const raison::Step* step) {
    raison::run(*static_cast<const raison::Model*>(model), *step);
}
void raison_guess(const void* model, const raison::Guess* guess) {
    raison::guess(*static_cast<const raison::Model*>(model), *guess);
}
int raison_turns(const void* model, const void* module, raison::Turns* turns) {
    return raison::turns(*static_cast<const raison::Model*>(model), static_cast<const raison::Model*>(module), *turns);
}
void raison_draw(const raison::Draw* draw) { raison::draw(*draw); }

}
