"""How fast are our networks beside what one would otherwise install? Side by side, in one process.

Every contender gets the same batch, dtype, number of threads, fused AdamW, gradient clipping and warm-up,
and the parameters of its network are equal within a few per cent. Maps of the caption, which the peers do
not have or have otherwise, are left out of that count, so that no peer has to carry more layers for them.
Where a peer has options that change its speed, all are tried and the fastest is taken. Sampling is timed
without codec and, where a peer has no guidance, without guidance. Repetitions are interleaved; the ratio is
taken within each.

    .venv-peers/bin/python benchmarks/peers.py --threads 2
    .venv-peers/bin/python benchmarks/peers.py --questions gpt --repeats 15
"""

import argparse
from types import SimpleNamespace

import before_torch  # noqa: F401
import torch
import torchvision_shim  # noqa: F401  # before the peers are imported
from contest import (
    BATCH,
    CPU,
    Contender,
    Question,
    codes_only,
    our_samples,
    our_step,
    training_step,
)
from random_world import World
from stopwatch import Run, describe_machine
from torch import Tensor, nn
from torch.nn import functional as F

from salon.codecs.vqvae import VqVae
from salon.nn.quantizer import DEAD_SHARE, VectorQuantizer


def unet(world: World) -> list[Question]:
    """Diffusion against denoising-diffusion-pytorch."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    ours = world.method("diffusion")
    network = [ours.time, *(child for name, child in ours.unet.named_children() if name != "layouts")]
    side = world.data.images.shape[-1]
    images = world.data.images[:BATCH].float() / 255

    def peer(flash: bool, memory_format: torch.memory_format) -> GaussianDiffusion:
        # the usual widths and depths with our number of parameters; odder ones differ by a tenth
        net = Unet(dim=16, dim_mults=(1, 2, 4, 4), flash_attn=flash)
        return GaussianDiffusion(
            net, image_size=side, timesteps=1000, sampling_timesteps=8, objective="pred_v"
        ).to(memory_format=memory_format)

    peers = {
        f"{'flash' if flash else 'plain'} attention{', channels last' if last else ''}": peer(
            flash, torch.channels_last if last else torch.contiguous_format
        )
        for flash in (False, True)
        for last in (False, True)
    }
    name, first = "denoising-diffusion-pytorch", next(iter(peers.values()))

    def steps_of(net: GaussianDiffusion) -> Run:
        return training_step(net, lambda: net(images))

    def samples_of(net: GaussianDiffusion, batch: int) -> Run:
        return lambda: net.eval().sample(batch_size=batch)

    questions = [
        Question(
            f"U-Net, training step, batch {BATCH}, {side}x{side}, fp32",
            [
                Contender("salon diffusion", network, {"": our_step(ours, world)}),
                Contender(name, [first], {way: steps_of(net) for way, net in peers.items()}),
            ],
        )
    ]
    for batch in (1, BATCH):
        mine = our_samples(ours, world, batch=batch, guidance_scale=1.0, steps=8)
        questions.append(
            Question(
                f"U-Net, sampling in 8 steps (Euler against DDIM), no guidance, batch {batch}",
                [
                    Contender("salon diffusion", network, {"": mine}),
                    Contender(name, [first], {way: samples_of(net, batch) for way, net in peers.items()}),
                ],
            )
        )
    return questions


def gpt(world: World) -> list[Question]:
    """Dalle against transformers' Llama and x-transformers, all of one width, depth and vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    ours = world.method("dalle", codec=codes_only(world))
    config, vocabulary, cells = ours.config, ours.codebook_size, ours.cells
    heads, hidden = config.width // config.head_width, ours.transformer.blocks[0].down.in_features
    codes = ours.precompute(world.data.images[:BATCH].float() / 127.5 - 1)

    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=config.width,
            intermediate_size=hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=heads,
            max_position_embeddings=cells + 1,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
    )
    caption = torch.randn(BATCH, 1, config.width)

    def llama_loss() -> Tensor:
        written = llama.get_input_embeddings()(codes[:, :-1])
        logits = llama(inputs_embeds=torch.cat([caption, written], dim=1), use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1), codes.flatten())

    def llama_samples(batch: int, cache: str) -> Run:
        return lambda: llama.eval().generate(
            inputs_embeds=caption[:batch],
            max_new_tokens=cells,
            min_new_tokens=cells,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            cache_implementation=cache,
        )

    start = vocabulary  # a token of its own in the place of the caption
    decoder = Decoder(
        dim=config.width,
        depth=config.layers,
        heads=heads,
        attn_dim_head=config.head_width,
        attn_flash=True,
        attn_qk_norm=True,
        rotary_pos_emb=True,
        ff_glu=True,
        ff_swish=True,
        ff_no_bias=True,
        ff_mult=hidden / config.width,
    )
    x_transformer = AutoregressiveWrapper(
        TransformerWrapper(
            num_tokens=vocabulary + 1, max_seq_len=cells + 1, use_abs_pos_emb=False, attn_layers=decoder
        )
    )
    sequence = torch.cat([torch.full((BATCH, 1), start), codes], dim=1)

    def x_samples(batch: int) -> Run:
        return lambda: x_transformer.generate(
            sequence[:batch, :1], cells, cache_kv=True, filter_logits_fn=lambda logits: logits
        )

    network = [ours.code, ours.transformer]
    questions = [
        Question(
            f"GPT, training step, batch {BATCH}, {cells} codes of {vocabulary}, fp32",
            [
                Contender("salon dalle", network, {"": our_step(ours, world)}),
                Contender("transformers, Llama", [llama], {"": training_step(llama, llama_loss)}),
                Contender(
                    "x-transformers",
                    [x_transformer],
                    {"": training_step(x_transformer, lambda: x_transformer(sequence))},
                ),
            ],
        )
    ]
    for batch in (1, BATCH):
        mine = our_samples(ours, world, batch=batch, guidance_scale=1.0, steps=None)
        caches = {f"{cache} cache": llama_samples(batch, cache) for cache in ("dynamic", "static")}
        questions.append(
            Question(
                f"GPT, sampling {cells} codes with cached keys and values, no guidance, batch {batch}",
                [
                    Contender("salon dalle", network, {"": mine}),
                    Contender("transformers, Llama.generate", [llama], caches),
                    Contender("x-transformers, generate", [x_transformer], {"": x_samples(batch)}),
                ],
            )
        )
    return questions


def masked_prior(world: World) -> list[Question]:
    """Vqvae against muse-maskgit-pytorch."""
    from muse_maskgit_pytorch import MaskGit, MaskGitTransformer, VQGanVAE, t5

    ours = world.method("vqvae", codec=codes_only(world), guidance_start=0.0)  # in all passes, as the peer
    config, vocabulary, cells = ours.config, ours.codebook_size, ours.cells
    codes = ours.precompute(world.data.images[:BATCH].float() / 127.5 - 1)
    # the caption is one vector, as ours; no T5 is loaded for it
    t5.T5_CONFIGS[t5.DEFAULT_T5_NAME] = {"config": SimpleNamespace(d_model=config.width)}
    captions = torch.randn(BATCH, 1, config.width)

    def peer(flash: bool) -> MaskGit:
        transformer = MaskGitTransformer(
            num_tokens=vocabulary,
            seq_len=cells,
            dim=config.width,
            depth=round(config.layers * 3 / 4),  # cross-attention makes each layer 4/3 as large
            dim_head=config.head_width,
            heads=config.width // config.head_width,
            flash=flash,
        )
        transformer.encode_text = lambda texts: captions[: len(texts)]
        transformer.self_cond_to_init_embed = nn.Identity()  # not in use, but it would count
        # only looked at: codes are given, and stay codes
        vae = VQGanVAE(dim=16, codebook_size=vocabulary, layers=2, use_vgg_and_gan=False)
        maskgit = MaskGit(
            image_size=world.data.images.shape[-1],
            transformer=transformer,
            vae=vae,
            cond_drop_prob=config.caption_dropout,
        )
        maskgit.vae = maskgit.cond_vae = CodesStay()
        return maskgit

    class CodesStay(nn.Module):
        def get_encoded_fmap_size(self, image_size: int) -> int:
            return round(cells**0.5)

        def decode_from_ids(self, ids: Tensor) -> Tensor:
            return ids

    peers = {f"{'flash' if flash else 'plain'} attention": peer(flash) for flash in (False, True)}
    first = next(iter(peers.values()))

    def steps_of(net: MaskGit) -> Run:
        return training_step(net, lambda: net(codes, text_embeds=captions))

    def samples_of(net: MaskGit, batch: int) -> Run:
        return lambda: net.generate(
            texts=[""] * batch,
            timesteps=8,
            cond_scale=2.0,
        )

    network, name = [ours.code, ours.transformer], "muse-maskgit-pytorch"
    questions = [
        Question(
            f"Masked prior, training step, batch {BATCH}, {cells} codes of {vocabulary}, fp32",
            [
                Contender("salon vqvae", network, {"": our_step(ours, world)}),
                Contender(name, [first], {way: steps_of(net) for way, net in peers.items()}),
            ],
        )
    ]
    for batch in (1, BATCH):
        mine = our_samples(ours, world, batch=batch, guidance_scale=2.0, steps=8)
        questions.append(
            Question(
                f"Masked prior, sampling in 8 steps with guidance 2, batch {batch}",
                [
                    Contender("salon vqvae", network, {"": mine}),
                    Contender(name, [first], {way: samples_of(net, batch) for way, net in peers.items()}),
                ],
            )
        )
    return questions


def quantiser(world: World) -> list[Question]:
    """VectorQuantizer against vector-quantize-pytorch."""
    from vector_quantize_pytorch import VectorQuantize

    codec = world.codec("vqvae")
    assert isinstance(codec, VqVae)
    entries, width, cells = codec.codebook_size, codec.config.code_width, codec.latent_shape(32)[0]
    questions = []
    for batch in (codec.config.batch_size, 8 * codec.config.batch_size):
        z = torch.randn(batch, cells, width, requires_grad=True)
        ours = VectorQuantizer(entries, width).train()
        peer = VectorQuantize(
            width,
            entries,
            decay=ours.decay,
            rotation_trick=False,  # the gradient passes straight through, as ours
            threshold_ema_dead_code=DEAD_SHARE * batch * cells / entries,
        ).train()

        def our_pass(z: Tensor = z, ours: VectorQuantizer = ours) -> None:
            quantized = ours(z.flatten(0, 1))
            z.grad = None
            (quantized.z_q.square().mean() + quantized.commitment).backward()

        def peer_pass(z: Tensor = z, peer: VectorQuantize = peer) -> None:
            z_q, _, commitment = peer(z)
            z.grad = None
            (z_q.square().mean() + commitment.sum()).backward()

        title = f"Quantiser, training pass, {batch} x {cells} vectors of {width}, {entries} entries, fp32"
        contenders = [
            Contender("salon VectorQuantizer", [ours], {"": our_pass}),
            Contender("vector-quantize-pytorch", [peer], {"": peer_pass}),
        ]
        questions.append(Question(title, contenders))
    return questions


QUESTIONS = {"unet": unet, "gpt": gpt, "masked-prior": masked_prior, "quantiser": quantiser}


def main() -> None:
    """Answer the chosen questions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    world = World.draw()
    print(f"{describe_machine(CPU)}; medians, and ratios with their quartiles")
    for name in arguments.questions:
        for question in QUESTIONS[name](world):
            question.answer(repeats=arguments.repeats)


if __name__ == "__main__":
    main()
