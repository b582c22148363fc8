import torch

from lorate.optim.average import PolynomialAverage


def test_weights_grow_as_a_polynomial():
    # (nu + 1)/(t + nu) with nu = 5 gives V_t the weight (t + 4)!/(t - 1)! up to a constant
    values = [torch.tensor([float(t == picked) for picked in range(1, 9)]) for t in range(1, 9)]
    average = PolynomialAverage([torch.zeros(8)], 5.0, 0.0)
    for step, value in enumerate(values, start=1):
        average.pending = step
        average.take_in([value])
    weights = average.tensors[0].double()
    expected = torch.tensor([torch.arange(t, t + 5).double().prod() for t in range(1, 9)])
    torch.testing.assert_close(weights, expected / expected.sum(), rtol=1e-5, atol=1e-8)


def test_exchanging_twice_is_nothing():
    parameter = torch.nn.Parameter(torch.randn(3))
    average = PolynomialAverage([parameter], 5.0, 0.0)
    average.pending = 4
    average.take_in([torch.randn(3)])
    before, kept = parameter.detach().clone(), average.tensors[0].clone()
    average.exchange([parameter])
    assert torch.equal(parameter, kept)
    average.exchange([parameter])
    assert torch.equal(parameter, before)
    assert torch.equal(average.tensors[0], kept)


def test_half_precision_is_averaged_in_float32():
    parameter = torch.ones(2, dtype=torch.bfloat16)
    average = PolynomialAverage([parameter], 5.0, 0.0)
    assert average.tensors[0].dtype == torch.float32


def test_a_step_counts_once() -> None:
    average = PolynomialAverage([torch.zeros(2)], 5.0, 0.0)
    average.pending = 3
    average.take_in([torch.ones(2)])
    once = average.tensors[0].clone()
    average.take_in([torch.full((2,), 7.0)])
    assert torch.equal(average.tensors[0], once) and average.pending == 0


def test_it_follows_the_parameters_into_another_dtype() -> None:
    average = PolynomialAverage([torch.ones(2)], 5.0, 0.0)
    average.pending = 1
    average.take_in([torch.full((2,), 2.0, dtype=torch.float64)])
    assert average.tensors[0].dtype == torch.float64


def test_gradients_are_taken_between_the_steps_and_their_average() -> None:
    # the definition, with z and x both kept, against the one that keeps x and finds z again
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, dtype=torch.float64, generator=generator)
    b, p = 0.5, 2.0
    z, x, y = start.clone(), start.clone(), start.clone()
    average = PolynomialAverage([y], p, b)
    for t in range(1, 12):
        step = torch.randn(4, dtype=torch.float64, generator=generator)
        average.take_in([y])
        before = x.clone()
        y += average.displacement([y], [step], t)[0]
        average.pending = t
        z = z + step
        w = (p + 1) / (t + p)
        x = (1 - w) * x + w * z
        torch.testing.assert_close(y, (1 - b) * z + b * x)
        torch.testing.assert_close(average.tensors[0], before)  # one step behind, which may be taken back
    average.take_in([y])
    torch.testing.assert_close(average.tensors[0], x)


def test_a_step_taken_back_is_as_if_it_had_not_been() -> None:
    steps = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ends = []
    for also in (False, True):
        y = torch.zeros(3, dtype=torch.float64)
        average = PolynomialAverage([y], 2.0, 0.5)
        for t, step in enumerate(steps, start=1):
            average.take_in([y])
            if also and t == 4:
                wrong = average.displacement([y], [100 * step], t)[0]
                y += wrong
                average.pending = t
                y -= wrong
                average.pending = 0
            y += average.displacement([y], [step], t)[0]
            average.pending = t
        average.take_in([y])
        ends.append((y.clone(), average.tensors[0]))
    torch.testing.assert_close(ends[0], ends[1])
