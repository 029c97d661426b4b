// The calls of ExecuTorch's Android library that the snippet makes, with its names and types; the network is the mean.
package org.pytorch.executorch

class Tensor private constructor(val dataAsFloatArray: FloatArray, val shape: LongArray) {
    companion object {
        @JvmStatic
        fun fromBlob(data: FloatArray, shape: LongArray) = Tensor(data, shape)
    }
}

class EValue private constructor(private val tensor: Tensor) {
    fun toTensor() = tensor

    companion object {
        @JvmStatic
        fun from(tensor: Tensor) = EValue(tensor)
    }
}

class Module private constructor() {
    fun forward(vararg inputs: EValue): Array<EValue> {
        val (count, channels, height, width) = inputs.single().toTensor().shape
        val data = inputs.single().toTensor().dataAsFloatArray
        check(data.size.toLong() == count * channels * height * width)
        return arrayOf(EValue.from(Tensor.fromBlob(floatArrayOf(0f, data.average().toFloat()), longArrayOf(1, 2))))
    }

    fun destroy() {}

    companion object {
        @JvmStatic
        fun load(path: String) = if (java.io.File(path).exists()) Module() else throw IllegalArgumentException(path)
    }
}
