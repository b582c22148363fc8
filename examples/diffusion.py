"""LoRA of a diffusion model with `auto`: a small UNet of diffusers learns to denoise hand-written digits.

The UNet is tiny, with random weights, and made here; a real one comes from UNet2DConditionModel.from_pretrained. Needs
the extra `hf`, diffusers and scikit-learn; no download, well under a minute on a CPU.
"""

import peft
import torch
from diffusers import DDPMScheduler, UNet2DModel
from sklearn.datasets import load_digits

import lorate

torch.manual_seed(0)
images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
training, held_out = images[:1600], images[1600:]
unet = UNet2DModel(
    sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32, 32), norm_num_groups=8,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
)  # fmt: skip
layers = ["conv_in", "conv1", "conv2", "conv_out", "to_q", "to_k", "to_v", "to_out.0", "time_emb_proj"]
model = peft.get_peft_model(unet, peft.LoraConfig(r=8, lora_alpha=16, target_modules=layers))
scheduler = DDPMScheduler(num_train_timesteps=100)


def denoising_loss(clean, generator=None):
    """Mean squared error of the noise that the model sees in noisy images."""
    noise = torch.randn(clean.shape, generator=generator)
    times = torch.randint(100, (len(clean),), generator=generator)
    return torch.nn.functional.mse_loss(model(scheduler.add_noise(clean, noise, times), times).sample, noise)


def evaluate():
    """The same noise at each call."""
    with torch.no_grad():
        return denoising_loss(held_out, torch.Generator().manual_seed(1)).item()


before = evaluate()
optimizer = lorate.create_optimizer(model)
for _ in range(150):
    batch = training[torch.randint(len(training), (32,))]
    loss = denoising_loss(batch)
    loss.backward()
    optimizer.step(loss=loss)
    optimizer.zero_grad()
optimizer.finish()  # model.save_pretrained(...) keeps the adapter
print(f"held-out loss: {before:.3f} before, {evaluate():.3f} after")
