/* What a model and the codes say of themselves. */

int lenet5c_abi_version(void) { return LENET5C_ABI_VERSION; }

const char *lenet5c_strerror(int code)
{
    switch (code) {
    case LENET5C_OK:
        return "no error";
    case LENET5C_BAD_ARGUMENT:
        return "an argument is NULL or negative";
    case LENET5C_NO_MEMORY:
        return "not enough memory";
    case LENET5C_NO_FILE:
        return "the file cannot be opened or read";
    case LENET5C_BAD_HEADER:
        return "no model file: its header is damaged or of another format";
    case LENET5C_BAD_SIZE:
        return "the file is truncated or has trailing bytes";
    case LENET5C_BAD_CHECKSUM:
        return "the file is damaged: its SHA-256 is another";
    case LENET5C_BAD_VALUE:
        return "a parameter is NaN or infinite";
    case LENET5C_BAD_NETWORK:
        return "a layer is unknown, or its sizes or parameters do not fit";
    case LENET5C_BAD_INPUT:
        return "the input stage is incomplete or out of range";
    case LENET5C_BAD_CLASSES:
        return "the labels are of several sorts, or two are the same";
    case LENET5C_BAD_IMAGE:
        return "the images are empty or larger than the network's input";
    case LENET5C_BAD_PIXELS:
        return "the pixels are not of the kind that the network was trained on";
    }
    return "unknown code";
}

int lenet5c_input(const lenet5c_model *model, lenet5c_input_info *info)
{
    if (!model || !info) return LENET5C_BAD_ARGUMENT;
    *info = model->input;
    return LENET5C_OK;
}

int lenet5c_classes(const lenet5c_model *model)
{
    return model ? model->classes.count : LENET5C_BAD_ARGUMENT;
}

const char *lenet5c_class_name(const lenet5c_model *model, int k)
{
    return model && k >= 0 && k < model->classes.count ? model->classes.all[k].text : NULL;
}

const char *lenet5c_instruction_set(const lenet5c_model *model)
{
    if (!model) return NULL;
    return model->int8.kernels ? model->int8.kernels->name : model->kernels->name;
}

size_t lenet5c_workspace_size(const lenet5c_model *model)
{
    if (!model) return 0;
    return (size_t)model->workspace * sizeof(float) + ALIGNMENT;
}
